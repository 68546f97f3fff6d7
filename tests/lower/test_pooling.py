"""Every pool: the graph computes what the module computes, and sums beyond int32 are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from gmpq.errors import LoweringError
from gmpq.ir import AvgPool, MaxPool, Padding
from gmpq.lower import lower
from tests.support.networks import Call, check_equal, kinds

IMAGE = (2, 6, 11, 9)
SIDE = 2902  # 2902 x 2902 codes of 255 exceed int32


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(nn.MaxPool2d(2), id="plain"),
        pytest.param(nn.MaxPool2d(3, 2, 1), id="padding"),
        pytest.param(nn.MaxPool2d((2, 3), (1, 2), (1, 0)), id="uneven"),
        pytest.param(nn.MaxPool2d(3, 2, ceil_mode=True), id="ceil"),
        pytest.param(nn.MaxPool2d(2, 2, 1, ceil_mode=True), id="ceil-drops-last-window"),
        pytest.param(nn.MaxPool2d(3, 4, 1, ceil_mode=True), id="ceil-wide-stride"),
        pytest.param(nn.MaxPool2d(3, 1, 1, dilation=2), id="dilation"),
        pytest.param(Call(lambda x: F.max_pool2d(x, 3, stride=2)), id="functional"),
    ],
)
def test_max_pools(module: nn.Module) -> None:
    assert kinds(module, IMAGE) == ["MaxPool"]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(2, 2, 0), (3, 2, 1), ((3, 2), (2, 3), (1, 0)), (2, 2, 1), (4, 3, 2), (3, 4, 1), (5, 1, 2)],
    ids=str,
)
def test_average_pools_in_every_mode(kernel: int, stride: int, padding: int) -> None:
    pools = [
        nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=include)
        for ceil in (False, True)
        for include in (False, True)
    ]
    assert kinds(Call(lambda x, *pools: [pool(x) for pool in pools], *pools), IMAGE) == [
        "AvgPool"
    ] * len(pools)


@pytest.mark.parametrize("size", range(3, 13))
def test_ceil_mode_sizes(size: int) -> None:
    pools = [
        nn.MaxPool2d(3, stride, padding, ceil_mode=True)
        for stride in (1, 2, 3, 4)
        for padding in (0, 1)
    ]
    module = Call(lambda x, *pools: [pool(x) for pool in pools], *pools)
    graph = check_equal(module, (1, 2, size, size))
    for node in graph.nodes:
        assert isinstance(node, MaxPool)
        assert node.window.output_size(size, size) == graph.values[node.output].shape[2:]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(nn.AdaptiveAvgPool2d(1), ["GlobalAvgPool"], id="adaptive-1"),
        pytest.param(nn.AdaptiveAvgPool2d((1, 1)), ["GlobalAvgPool"], id="adaptive-1-1"),
        pytest.param(nn.AdaptiveAvgPool2d((4, 3)), ["AvgPool"], id="adaptive-divides"),
        pytest.param(nn.AdaptiveAvgPool2d((None, 2)), ["AvgPool"], id="adaptive-none"),
        pytest.param(nn.AvgPool2d((8, 6)), ["GlobalAvgPool"], id="window-of-the-image"),
        pytest.param(lambda x: x.mean((2, 3)), ["GlobalAvgPool", "Reshape"], id="mean"),
        pytest.param(lambda x: x.mean([-1, -2]), ["GlobalAvgPool", "Reshape"], id="mean-negative"),
        pytest.param(lambda x: x.mean((2, 3), True), ["GlobalAvgPool"], id="mean-keepdim"),
        pytest.param(
            lambda x: x.flatten(2).mean(-1), ["Reshape", "GlobalAvgPool", "Reshape"], id="mean-flat"
        ),
        pytest.param(
            lambda x: F.adaptive_avg_pool2d(x, (8, 6)).relu(), ["Activation"], id="adaptive-same"
        ),
    ],
)
def test_means_over_space(function: Callable[..., object], expected: list[str]) -> None:
    module = function if isinstance(function, nn.Module) else Call(function)
    assert kinds(module, (2, 5, 8, 6)) == expected


def test_counted_padding_of_a_padded_average_pool() -> None:
    net = nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3, 2, 1, count_include_pad=False))
    (node,) = check_equal(net, IMAGE).nodes
    assert isinstance(node, AvgPool)
    assert node.window.padding == Padding(2, 2, 2, 2)
    assert node.counted == Padding(1, 1, 1, 1)


def test_zeros_before_a_max_pool_can_win() -> None:
    net = Call(lambda x: F.max_pool2d(F.pad(x.clamp(max=-1), (0, 1, 0, 1)), 3, 2))
    assert kinds(net, IMAGE) == ["Activation", "Pad", "MaxPool"]


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.mark.parametrize(
    "pool",
    [nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(SIDE), Mean()],
    ids=["adaptive", "window", "mean"],
)
def test_a_mean_of_too_many_codes(pool: nn.Module) -> None:
    with pytest.raises(LoweringError, match="sums 2902x2902 codes, beyond int32"):
        lower(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), pool), (1, 1, SIDE, SIDE), "net")
