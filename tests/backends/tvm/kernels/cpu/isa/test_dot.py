from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.isa.dot import Int32Dot, best_dot
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd, Vpmaddubsw, Vpmaddwd
from gmpq.backends.tvm.target import find
from gmpq.ir import (
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Value,
    Window,
)
from gmpq.runtime import Network

CASES = [
    pytest.param(255, 127, Vpmaddwd, id="w8a8-would-saturate"),
    pytest.param(255, -128, Vpmaddwd, id="lowest-weight"),
    pytest.param(255, 64, Vpmaddubsw, id="largest-exact-pair"),
    pytest.param(255, 65, Vpmaddwd, id="one-beyond"),
    pytest.param(127, 127, Vpmaddubsw, id="w8a7"),
    pytest.param(15, 7, Vpmaddubsw, id="w4a4"),
]


@pytest.mark.parametrize(("code", "weight", "expected"), CASES)
def test_avx2_narrows_only_where_no_pair_saturates(code: int, weight: int, expected: type) -> None:
    weights = np.array([[weight]], np.int8)
    assert isinstance(best_dot(find("x86-64-v3"), code, weights), expected)


def test_targets_choose_their_instruction() -> None:
    weights = np.ones((1, 1), np.int8)
    assert isinstance(best_dot(find("x86-64-v4-vnni"), 255, weights), Vpdpbusd)
    assert isinstance(best_dot(find("arm64"), 255, weights), Int32Dot)


def test_padding_counts_among_the_codes(tmp_path: Path) -> None:
    """The zero point may exceed every code of the value, and padding holds it."""
    rng = np.random.default_rng(0)
    weight = QWeight(
        np.full((4, 4, 3, 3), 127, np.int8), np.ones(4, np.float32), np.zeros(4, np.int32), 8
    )
    q = QParams(1.0, 255, 8, 0, 100)
    values = (
        Value("image", (1, 4, 5, 5)),
        Value("x", (1, 4, 5, 5), q),
        Value("y", (1, 4, 5, 5), QParams.full(5e4, 255, 8)),
        Value("real", (1, 4, 5, 5)),
    )
    nodes = (
        Quantize("quantize", ("image",), "x"),
        Conv2d("conv", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1))),
        Dequantize("dequantize", ("y",), "real"),
    )
    graph: IntGraph = Graph("g", ("image",), ("real",), {v.name: v for v in values}, nodes)
    image = rng.uniform(-255, -155, (1, 4, 5, 5)).astype(np.float32)
    network = Network(tmp_path, build(graph, find("x86-64-v3"), tmp_path).program)
    expected = reference.run(graph, {"image": image})["y"]
    np.testing.assert_array_equal(expected, dict(network.trace(image))["y"])
