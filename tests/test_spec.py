"""The rules of legal integer graphs: every random graph keeps them, each broken one is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from gmpq import spec
from gmpq.backends import reference
from gmpq.ir import (
    Add,
    Concat,
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Multiply,
    Node,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Value,
    Window,
)
from tests.support.strategies import graphs, random_graph, random_input

Q = QParams.full(0.05, 128, 8)


def _weight() -> QWeight:
    codes = np.full((3, 2, 3, 3), 5, np.int8)
    return QWeight(codes, np.full(3, 0.01, np.float32), np.zeros(3, np.int32), 4)


def _nodes() -> tuple[Node, ...]:
    return (
        Quantize("q", ("x",), "q"),
        Conv2d("conv", ("q",), "conv", _weight(), Window((3, 3), padding=Padding(1, 1, 1, 1))),
        Add("add", ("conv", "conv"), "add"),
        Dequantize("y", ("add",), "y"),
    )


def _values() -> dict[str, Value]:
    image, wide = (1, 2, 4, 4), (1, 3, 4, 4)
    values = (
        Value("x", image),
        Value("q", image, Q),
        Value("conv", wide, Q),
        Value("add", wide, replace(Q, zero_point=0)),
        Value("y", wide),
    )
    return {value.name: value for value in values}


def _graph() -> IntGraph:
    return Graph("small", ("x",), ("y",), _values(), _nodes())


def _with_value(name: str, **changes: object) -> Callable[[IntGraph], IntGraph]:
    def edit(graph: IntGraph) -> IntGraph:
        value = graph.values[name]
        assert value.q is not None
        changed = replace(value, q=replace(value.q, **changes))  # type: ignore[arg-type]  # tables
        return replace(graph, values={**graph.values, name: changed})

    return edit


def _with_shape(name: str, *shape: int) -> Callable[[IntGraph], IntGraph]:
    def edit(graph: IntGraph) -> IntGraph:
        return replace(
            graph, values={**graph.values, name: replace(graph.values[name], shape=shape)}
        )

    return edit


def _with_weight(**changes: object) -> Callable[[IntGraph], IntGraph]:
    def edit(graph: IntGraph) -> IntGraph:
        node = graph.nodes[1]
        assert isinstance(node, Conv2d)
        weight = replace(node.weight, **changes)  # type: ignore[arg-type]  # tables
        nodes = (graph.nodes[0], replace(node, weight=weight), *graph.nodes[2:])
        return replace(graph, nodes=nodes)

    return edit


def _swapped(graph: IntGraph) -> IntGraph:
    first, second, *rest = graph.nodes
    return replace(graph, nodes=(second, first, *rest))


def _same_names(graph: IntGraph) -> IntGraph:
    return replace(graph, nodes=tuple(replace(node, name="same") for node in graph.nodes))


def _coded_output(graph: IntGraph) -> IntGraph:
    return replace(graph, outputs=("add",))


def _real(name: str) -> Callable[[IntGraph], IntGraph]:
    def edit(graph: IntGraph) -> IntGraph:
        changed = replace(graph.values[name], q=None)
        return replace(graph, values={**graph.values, name: changed})

    return edit


def _joined(*parts: str, real: bool = True) -> Callable[[IntGraph], IntGraph]:
    """Return an edit that ends a graph in a Concat of ``parts`` of one shape."""

    def edit(graph: IntGraph) -> IntGraph:
        first = graph.values[parts[0]]
        batch, channels, *space = first.shape
        q = None if real else first.q
        joined = Value("joined", (batch, channels * len(parts), *space), q)
        return replace(
            graph,
            outputs=("joined",),
            values={**graph.values, "joined": joined},
            nodes=(*graph.nodes, Concat("joined", parts, "joined")),
        )

    return edit


def _last_layer(graph: IntGraph) -> IntGraph:
    """Return ``graph`` cut behind its convolution, which writes float32."""
    values = {name: graph.values[name] for name in (*graph.inputs, "q")}
    values["conv"] = replace(graph.values["conv"], q=None)
    return replace(graph, outputs=("conv",), values=values, nodes=graph.nodes[:2])


def test_a_last_layer_and_what_joins_it_may_be_float32() -> None:
    spec.check(_last_layer(_graph()))
    spec.check(_joined("conv", "conv")(_last_layer(_graph())))


def _product(first: tuple[int, ...], second: tuple[int, ...], scale: float = 0.5) -> IntGraph:
    """Return the product of two tensors of shapes that one Quantize each writes."""
    shapes = {"x": first, "z": second, "a": first, "b": second, "y": max(first, second)}
    values = {name: Value(name, shape, Q) for name, shape in shapes.items()}
    values |= {name: Value(name, shapes[name]) for name in ("x", "z")}
    values["y"] = Value("y", shapes["y"], replace(Q, scale=scale))
    values["real"] = Value("real", shapes["y"])
    nodes = (
        Quantize("a", ("x",), "a"),
        Quantize("b", ("z",), "b"),
        Multiply("y", ("a", "b"), "y"),
        Dequantize("real", ("y",), "real"),
    )
    return Graph("product", ("x", "z"), ("real",), values, nodes)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 3, 4, 4), (1, 3, 4, 4)),
        ((1, 3, 4, 4), (1, 3, 1, 1)),
        ((1, 3, 1, 1), (1, 3, 4, 4)),
        ((2, 5), (2, 5)),
    ],
)
def test_legal_products(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    spec.check(_product(first, second))


@pytest.mark.parametrize(
    ("first", "second", "scale", "rule"),
    [
        ((1, 3, 4, 4), (1, 1, 1, 1), 0.5, "equal shapes, or"),
        ((1, 3, 4, 4), (1, 3, 4, 1), 0.5, "equal shapes, or"),
        ((2, 5), (2, 1), 0.5, "equal shapes, or"),
        ((1, 3, 4, 4), (1, 3, 4, 4), 2.0**125, "multipliers are normal"),
    ],
)
def test_illegal_products(
    first: tuple[int, ...], second: tuple[int, ...], scale: float, rule: str
) -> None:
    with pytest.raises(AssertionError, match=rule):
        spec.check(_product(first, second, scale))


def test_a_small_graph_is_legal() -> None:
    spec.check(_graph())


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        pytest.param(_swapped, "execution order", id="order"),
        pytest.param(_same_names, "unique", id="names"),
        pytest.param(_coded_output, "outside", id="output-of-codes"),
        pytest.param(_real("add"), "holds codes", id="float32-sum"),
        pytest.param(_real("conv"), "holds codes", id="float32-read-as-codes"),
        pytest.param(_joined("conv", "y"), "is float32, like", id="codes-joined-to-float32"),
        pytest.param(_with_value("conv", scale=0.125), "one scale", id="add-scales"),
        pytest.param(_with_value("conv", bits=4, high=15, zero_point=0), "8 bits", id="add-bits"),
        pytest.param(_with_value("q", scale=0.1000001), "normal float32", id="scale-not-float32"),
        pytest.param(_with_value("q", scale=0.0), "normal float32", id="scale-zero"),
        pytest.param(_with_value("q", scale=1e-39), "normal float32", id="scale-denormal"),
        pytest.param(_with_value("q", zero_point=256), "real 0", id="zero-point"),
        pytest.param(_with_value("q", low=9, high=8), "clip", id="low-above-high"),
        pytest.param(_with_value("q", bits=4), "clip", id="high-above-bits"),
        pytest.param(_with_value("q", bits=9), "container", id="nine-bits"),
        pytest.param(_with_shape("conv", 1, 3, 4, 5), "output shape", id="shape"),
        pytest.param(_with_shape("q", 1, 2, 4, 0), "empty", id="empty-axis"),
        pytest.param(_with_weight(bits=3), "fit 3 bits", id="weight-bits"),
        pytest.param(_with_weight(scale=np.ones(2, np.float32)), "per channel", id="weight-scales"),
        pytest.param(
            _with_weight(bias=np.full(3, 2**31 - 1, np.int32)), "overflows", id="accumulator"
        ),
        pytest.param(
            _with_weight(scale=np.full(3, 1e-37, np.float32)), "multipliers", id="tiny-multiplier"
        ),
    ],
)
def test_a_broken_rule_is_told(edit: Callable[[IntGraph], IntGraph], rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        spec.check(edit(_graph()))


@settings(deadline=None)
@given(graphs())
def test_the_reference_keeps_shapes_and_clips(graph: IntGraph) -> None:
    tensors = reference.run(graph, random_input(graph, 0))
    for name, value in graph.values.items():
        assert value.shape == tensors[name].shape
        if value.q is not None:
            assert value.q.low <= tensors[name].min()
            assert tensors[name].max() <= value.q.high


def test_random_graphs_cover_every_node() -> None:
    kinds = {type(node).__name__ for seed in range(200) for node in random_graph(seed).nodes}
    assert set(Node.__args__) == {kind for kind in Node.__args__ if kind.__name__ in kinds}
