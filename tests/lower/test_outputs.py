"""What a module returns, by keys and positions; and a value of its own for every output."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from gmpq.errors import LoweringError
from gmpq.ir import FloatGraph, Reshape, Softmax
from gmpq.lower import lower
from tests.support.networks import Call, check_equal

SHAPE = (1, 4, 6, 6)


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


def lowered(function: Callable[..., object]) -> FloatGraph:
    """Return the graph of ``function(x, conv)``, which computes what the function does."""
    torch.manual_seed(0)
    graph = check_equal(Call(function, nn.Conv2d(4, 4, 1)), SHAPE)
    assert len(set(graph.outputs)) == len(graph.outputs)
    assert set(graph.outputs).isdisjoint(graph.inputs)
    assert {node.output for node in graph.nodes} == set(graph.values) - set(graph.inputs)
    return graph


@pytest.mark.parametrize(
    ("function", "names"),
    [
        pytest.param(lambda x, conv: conv(x), ("layers.0",), id="tensor"),
        pytest.param(lambda x, conv: (conv(x),), ("output.0",), id="tuple-of-one"),
        pytest.param(lambda x, conv: [conv(x), x.relu()], ("output.0", "output.1"), id="list"),
        pytest.param(lambda x, conv: {"out": conv(x)}, ("out",), id="dict"),
        pytest.param(
            lambda x, conv: {"out": conv(x), "aux": [x.relu(), (x.sigmoid(),)]},
            ("out", "aux.0", "aux.1.0"),
            id="nested",
        ),
        pytest.param(
            lambda x, conv: OrderedDict([("1", x.relu()), ("0", conv(x))]), ("1", "0"), id="order"
        ),
        pytest.param(lambda x, conv: Pair(conv(x), x.relu()), ("left", "right"), id="named"),
        pytest.param(
            lambda x, conv: {"layer.1/a": conv(x), "b": x.relu()}, ("layer.1/a", "b"), id="dots"
        ),
    ],
)
def test_outputs_are_named_by_keys_and_positions(
    function: Callable[..., object], names: tuple[str, ...]
) -> None:
    assert lowered(function).outputs == names


def test_a_key_may_be_the_name_of_another_value() -> None:
    graph = lowered(lambda x, conv: {"layers.0": conv(x).relu(), "relu": x.sigmoid()})
    assert graph.outputs == ("layers.0", "relu")
    assert [node.name for node in graph.nodes] == ["layers.0", "relu", "sigmoid"]
    assert [node.output for node in graph.nodes] == ["layers.0:2", "layers.0", "relu"]


def test_keys_may_exchange_names() -> None:
    graph = lowered(lambda x, conv: {"relu": conv(x), "layers.0": x.relu()})
    assert [(node.name, node.output) for node in graph.nodes] == [
        ("layers.0", "relu"),
        ("relu", "layers.0"),
    ]


def twice(x: torch.Tensor, conv: nn.Module) -> object:
    y = conv(x)
    return y, nn.functional.dropout(y, training=False), {"again": y}


def test_a_value_that_is_several_outputs_is_copied() -> None:
    graph = lowered(twice)
    assert graph.outputs == ("output.0", "output.1", "output.2.again")
    assert [type(node) for node in graph.nodes[1:]] == [Reshape, Reshape]
    assert [node.inputs for node in graph.nodes[1:]] == [("output.0",), ("output.0",)]


def test_an_input_that_is_an_output_is_copied() -> None:
    graph = lowered(lambda x, conv: {"image": x, "again": x, "y": conv(x)})
    assert graph.outputs == ("image", "again", "y")
    assert [node.inputs for node in graph.nodes] == [("input",)] * 3


def test_a_softmax_that_is_several_outputs_is_computed_again() -> None:
    def function(x: torch.Tensor, conv: nn.Module) -> object:
        y = conv(x).softmax(1)
        return y, y

    assert [type(node) for node in lowered(function).nodes[1:]] == [Softmax, Softmax]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        pytest.param(lambda x: {1: x.relu()}, "dict with the key 1: outputs are named", id="int"),
        pytest.param(lambda x: {"a:b": x.relu()}, "with the key 'a:b'", id="colon"),
        pytest.param(lambda x: {"": x.relu()}, "with the key ''", id="empty"),
        pytest.param(
            lambda x: {"a.0": x.relu(), "a": [x.sigmoid()]},
            "two outputs are called 'a.0': rename a key",
            id="equal",
        ),
        pytest.param(
            lambda x: {"a": x.relu(), "a.codes": x.sigmoid()}, "two outputs", id="derived"
        ),
        pytest.param(
            lambda x: {"input": x.relu()}, "'input' has the name of the network's input", id="input"
        ),
        pytest.param(
            lambda x: {"a": x.permute(0, 2, 3, 1)}, "output 'a' returns its axes", id="axes"
        ),
        pytest.param(lambda x: (x, x), "'output.0' is not computed by a layer", id="inputs-only"),
        pytest.param(lambda x: {"n": x.shape[1]}, "output 'n' is 4: every output", id="number"),
        pytest.param(lambda x: {}, "returns no tensor", id="nothing"),
    ],
)
def test_what_cannot_be_named_is_refused(function: Callable[..., object], told: str) -> None:
    with pytest.raises(LoweringError, match=told) as caught:
        lower(Call(function), SHAPE, "net")
    assert "\n" not in str(caught.value)
