"""Small networks for the tests of training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from gmpq.lower.network import Trainable, lower_trainable
from gmpq.models.random import randomize
from gmpq.passes.cost import layer_names
from gmpq.policy import LayerBits
from gmpq.qat.build import InitialState, build
from gmpq.qat.network import QatNetwork
from gmpq.qat.optimize import advance, make_optimizer
from gmpq.qat.options import TrainOptions

SHAPE = (1, 3, 12, 12)


class Residual(nn.Module):
    """A stem, a residual block that reads the stream at fewer bits, and one with a projection."""

    def __init__(self, classes: int = 4, bias: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.bn0 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=bias)
        self.bn3 = nn.BatchNorm2d(12)
        self.down = nn.Conv2d(8, 12, 1, stride=2, bias=bias)
        self.bn4 = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn0(self.stem(x)))
        y = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(y)) + x)
        x = functional.relu(self.bn3(self.conv3(x)) + self.bn4(self.down(x)))
        y: torch.Tensor = self.fc(x.mean((2, 3)))
        return y


class Structured(Residual):
    """Returns an image of features, and then the scores, by name."""

    def forward(self, x: torch.Tensor) -> dict[str, object]:  # type: ignore[override]
        features = functional.relu(self.bn0(self.stem(x)))
        return {"features": [features], "scores": self.fc(self.conv3(features).mean((2, 3)))}


class Inverted(nn.Module):
    """Blocks of MobileNetV2: depthwise convolutions, ReLU6, signed narrow values that are added."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6))
        self.expand = nn.Sequential(
            *(nn.Conv2d(6, 18, 1, bias=False), nn.BatchNorm2d(18), nn.ReLU6()),
            *(nn.Conv2d(18, 18, 3, 1, 1, groups=18, bias=False), nn.BatchNorm2d(18), nn.ReLU6()),
            *(nn.Conv2d(18, 6, 1, bias=False), nn.BatchNorm2d(6)),
        )
        self.last = nn.Sequential(nn.Conv2d(6, 10, 1), nn.BatchNorm2d(10), nn.Hardswish())
        self.fc = nn.Linear(10, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.last(x + self.expand(x))
        y: torch.Tensor = self.fc(x.mean((2, 3)))
        return y


class Preactivated(nn.Module):
    """Batch norms before convolutions, which no layer can absorb, and one with vectors."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(6 * 36, 9)
        self.bn3 = nn.BatchNorm1d(9)
        self.fc = nn.Linear(9, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.conv1(functional.relu(self.bn1(x)))
        x = self.pool(functional.relu(self.bn2(x))).flatten(1)
        y: torch.Tensor = self.fc(functional.relu(self.bn3(self.hidden(x))))
        return y


class Gated(nn.Module):
    """Squeeze and excitation, and the product of two branches."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.SiLU()
        )
        self.squeeze = nn.Sequential(nn.Conv2d(6, 3, 1), nn.SiLU(), nn.Conv2d(3, 6, 1))
        self.branches = nn.ModuleList(nn.Conv2d(6, 8, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x * self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()
        x = self.branches[0](x) * functional.relu(self.branches[1](x))
        y: torch.Tensor = self.fc(functional.relu(x).mean((2, 3)))
        return y


NETWORKS = (Residual, Inverted, Preactivated, Gated)


def images(count: int, seed: int = 0, size: int = SHAPE[2]) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return ``network`` with random weights; some batch norms turn the sign."""
    randomize(network, seed, SHAPE[1:])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                part.weight[torch.rand(len(part.weight), generator=generator) < 0.3] *= -1
    return network.eval()


def uniform(network: Trainable, w: int, a: int) -> dict[str, LayerBits]:
    return dict.fromkeys(layer_names(network.graph), LayerBits(w, a))


def prepared(module: nn.Module, w: int, a: int, initial: InitialState | None = None) -> QatNetwork:
    """Return ``module`` ready for training, its first and last layer at 8 bits."""
    network = lower_trainable(module, SHAPE, "net")
    bits = uniform(network, w, a)
    names = list(bits)
    bits[names[0]] = bits[names[-1]] = LayerBits(8, 8)
    return build(network, bits, [images(16)], initial)


def trained_a_little(network: QatNetwork, steps: int = 3, lr: float = 0.01) -> QatNetwork:
    """Return ``network`` after a few steps towards random labels, in evaluation."""
    labels = torch.arange(16) % 4
    optimizer = make_optimizer(network, TrainOptions())
    network.train()
    for step in range(steps):
        loss = functional.cross_entropy(network(images(16, seed=step)), labels)
        optimizer.zero_grad()
        loss.backward()
        advance(optimizer, network, lr)
    network.eval()
    return network


class Small(nn.Module):
    """The least that has a residual, a batch norm and a position to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.pool = nn.AvgPool2d(3)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.stem(x)))
        x = functional.relu(self.bn2(self.body(x)) + x)
        y: torch.Tensor = self.fc(self.pool(x).flatten(1))
        return y


def small() -> nn.Module:
    network = Small()
    randomize(network, 0, SHAPE[1:])
    return network


def structured() -> nn.Module:
    """A classifier that returns an image of features before its scores, both by name."""
    return randomized(Structured())
