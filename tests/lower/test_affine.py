"""Sums and products with constants are a scale and a shift per channel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gmpq.ir import FloatConv2d
from tests.support.networks import Call, check_equal

IMAGE = (2, 6, 11, 9)
PER_CHANNEL = torch.linspace(-1.5, 2, 6).reshape(1, 6, 1, 1)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x * PER_CHANNEL + PER_CHANNEL, id="frozen-batch-norm"),
        pytest.param(lambda x: PER_CHANNEL[0] + PER_CHANNEL[0] * x, id="without-batch"),
        pytest.param(lambda x: (x - PER_CHANNEL) / (PER_CHANNEL**2 + 1), id="normalize"),
        pytest.param(lambda x: 1 - x, id="scalar-minus"),
        pytest.param(lambda x: PER_CHANNEL - x, id="constant-minus"),
        pytest.param(lambda x: torch.rsub(x, PER_CHANNEL, alpha=3), id="rsub"),
        pytest.param(lambda x: torch.add(x, PER_CHANNEL, alpha=2), id="alpha-of-a-constant"),
        pytest.param(lambda x: torch.sub(PER_CHANNEL, x, alpha=2), id="alpha-of-a-value"),
        pytest.param(lambda x: -(x / 255), id="negative"),
        pytest.param(lambda x: x.mul_(2).add_(PER_CHANNEL), id="in-place"),
        pytest.param(lambda x: x * torch.tensor([1, 0, 2, 0, 0, 3]).reshape(6, 1, 1), id="whole"),
        pytest.param(lambda x: x + torch.ones(11, 9), id="equal-within-a-channel"),
        pytest.param(lambda x: (x * 2 + 1) * PER_CHANNEL - 3, id="chain"),
    ],
)
def test_constants_are_absorbed_by_the_layer_before_them(function: Callable[..., object]) -> None:
    module = Call(lambda x, layer: function(layer(x)), nn.Conv2d(6, 6, 3, padding=1))
    assert [type(node).__name__ for node in check_equal(module, IMAGE).nodes] == ["FloatConv2d"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(lambda x: x * 2 + PER_CHANNEL, ["FloatConv2d"], id="image"),
        pytest.param(lambda x: (x * 1 + 0).relu(), ["Activation"], id="nothing"),
        pytest.param(lambda x: x.relu() - x, ["Activation", "FloatConv2d", "Add"], id="difference"),
        pytest.param(
            lambda x: torch.add(x, x.relu(), alpha=2),
            ["Activation", "FloatConv2d", "Add"],
            id="alpha",
        ),
        pytest.param(
            lambda x: x.mean((2, 3)) * PER_CHANNEL.flatten(),
            ["GlobalAvgPool", "FloatConv2d", "Reshape"],
            id="vector",
        ),
        pytest.param(
            lambda x: (x.relu().flatten(2) * 2).reshape(2, 6, 11, 9),
            ["Activation", "Reshape", "FloatConv2d", "Reshape"],
            id="sequence",
        ),
    ],
)
def test_constants_without_a_layer_before_them(
    function: Callable[..., object], expected: list[str]
) -> None:
    nodes = check_equal(Call(function), IMAGE).nodes
    assert [type(node).__name__ for node in nodes] == expected
    assert all(node.auxiliary for node in nodes if isinstance(node, FloatConv2d))
