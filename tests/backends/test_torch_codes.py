from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmpq.backends import reference
from gmpq.backends.torch_codes import TorchCodes
from gmpq.ir import (
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Softmax,
    Value,
    Window,
)
from tests.support.strategies import graphs, random_graph, random_input


@settings(max_examples=80, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 1000))
def test_every_code_equals_the_reference(graph: IntGraph, seed: int) -> None:
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    found = TorchCodes(graph).trace(inputs)
    assert found.keys() == {value.name for value in graph.values.values() if value.q is not None}
    for name, codes in found.items():
        assert codes.dtype == np.uint8
        np.testing.assert_array_equal(expected[name], codes, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(graph=graphs(exact=True), seed=st.integers(0, 1000))
def test_outputs_equal_the_reference(graph: IntGraph, seed: int) -> None:
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    found = TorchCodes(graph).run(inputs)
    assert tuple(found) == graph.outputs
    for name, real in found.items():
        assert real.dtype == np.float32
        np.testing.assert_array_equal(expected[name], real, err_msg=name)


def test_softmax_is_close_to_the_reference() -> None:
    graph = next(g for g in map(random_graph, count()) if any_softmax(g))
    inputs = random_input(graph, 0)
    expected, found = reference.run(graph, inputs), TorchCodes(graph).run(inputs)
    for name, real in found.items():
        np.testing.assert_allclose(expected[name], real, rtol=1e-5, atol=1e-7)


def any_softmax(graph: IntGraph) -> bool:
    return any(isinstance(node, Softmax) for node in graph.nodes)


@pytest.mark.parametrize("channels", [8, 1024], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [1, 3, 14])
def test_large_sums_stay_exact(channels: int, size: int) -> None:
    graph = _convolution(channels, size)
    inputs = random_input(graph, channels)
    expected = reference.run(graph, inputs)
    found = TorchCodes(graph).trace(inputs)
    np.testing.assert_array_equal(expected["y"], found["y"])


def test_the_batch_is_free() -> None:
    graph = _convolution(4, 5)
    x = random_input(graph, 0)["input"]
    both = TorchCodes(graph).trace({"input": np.concatenate([x, x[:, :, ::-1]])})
    alone = TorchCodes(graph).trace({"input": x})
    assert len(both["y"]) == 2
    np.testing.assert_array_equal(alone["y"], both["y"][:1])


def _convolution(channels: int, size: int) -> IntGraph:
    rng = np.random.default_rng(channels + size)
    codes = rng.integers(-128, 128, (9, channels, 3, 3)).astype(np.int8)
    scale = rng.uniform(1e-4, 2e-4, 9).astype(np.float32)
    weight = QWeight(codes, scale, rng.integers(-9999, 9999, 9).astype(np.int32), 8)
    shapes = {"input": channels, "x": channels, "y": 9, "output": 9}
    encodings = {"x": QParams.full(0.02, 0, 8), "y": QParams.full(0.05, 128, 8)}
    values = {
        name: Value(name, (1, count, size, size), encodings.get(name))
        for name, count in shapes.items()
    }
    nodes = (
        Quantize("x", ("input",), "x"),
        Conv2d("y", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1))),
        Dequantize("output", ("y",), "output"),
    )
    return Graph("convolution", ("input",), ("output",), values, nodes)
