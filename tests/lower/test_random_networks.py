"""Random networks: what lowering returns computes what the network computes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

from gmpq.ir import FloatConv2d
from tests.support.networks import check_equal, randomized

ACTIVATIONS: tuple[Callable[[int], nn.Module], ...] = (
    lambda _: nn.ReLU(inplace=True),
    lambda _: nn.ReLU6(),
    lambda _: nn.LeakyReLU(0.1),
    lambda channels: nn.PReLU(channels),
    lambda _: nn.SiLU(),
    lambda _: nn.Hardswish(),
    lambda _: nn.Sigmoid(),
    lambda _: nn.Identity(),
)


class Sum(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total += branch(x)
        result: torch.Tensor = total
        return result


class Side(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Gate(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.branch(x.mean((2, 3), keepdim=True)).sigmoid()


def convolution(draw: random.Random, inputs: int, outputs: int, *, keeps: bool) -> nn.Module:
    kernel, dilation = draw.choice((1, 3, 5)), draw.choice((1, 1, 2))
    groups = draw.choice([g for g in range(1, inputs + 1) if not (inputs % g or outputs % g)])
    same = dilation * (kernel - 1) // 2
    padding = same if keeps else draw.choice((same, 0 if kernel == 1 else same))
    layers: list[nn.Module] = [
        nn.Conv2d(
            inputs,
            outputs,
            kernel,
            1 if keeps else draw.choice((1, 2)),
            padding,
            dilation,
            groups,
            bias=draw.random() < 0.5,
        )
    ]
    if draw.random() < 0.7:
        layers.append(nn.BatchNorm2d(outputs))
    layers.append(draw.choice(ACTIVATIONS)(outputs))
    draw_order = layers if draw.random() < 0.8 else [nn.BatchNorm2d(inputs), *layers]
    return nn.Sequential(*draw_order)


def block(draw: random.Random, channels: int) -> tuple[nn.Module, int]:
    outputs = draw.choice((3, 4, 6, 7, 8))
    match draw.randrange(8):
        case 0 | 1:
            return convolution(draw, channels, outputs, keeps=False), outputs
        case 2:
            branches = (convolution(draw, channels, channels, keeps=True) for _ in range(2))
            return Sum(*branches, nn.Identity()), channels
        case 3:
            return Side(convolution(draw, channels, outputs, keeps=True), nn.Identity()), (
                channels + outputs
            )
        case 4:
            size = draw.choice((2, 3))
            return nn.MaxPool2d(size, 2, draw.choice((0, 1)), ceil_mode=True), channels
        case 5:
            return Gate(convolution(draw, channels, channels, keeps=True)), channels
        case 6:
            return nn.AvgPool2d(2, 1, 1, count_include_pad=draw.random() < 0.5), channels
        case _:
            return nn.Sequential(nn.ZeroPad2d((0, 1, 1, 0)), nn.Upsample(scale_factor=2)), channels


def network(seed: int) -> nn.Module:
    draw = random.Random(seed)
    channels = 3
    layers: list[nn.Module] = []
    for _ in range(draw.randrange(2, 7)):
        layer, channels = block(draw, channels)
        layers.append(layer)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5), nn.BatchNorm1d(5)]
    return nn.Sequential(*layers, *head)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks(seed: int) -> None:
    module = randomized(network(seed), (1, 3, 17, 14), seed)
    graph = check_equal(module, (2, 3, 17, 14))
    layers = {name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)}
    lowered = {n.name for n in graph.nodes if isinstance(n, FloatConv2d) and not n.auxiliary}
    assert lowered == layers
