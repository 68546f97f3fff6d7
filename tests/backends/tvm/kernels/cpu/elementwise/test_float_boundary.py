"""Quantization, dequantization and softmax of every shape, by every target that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram, missing
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Dequantize, Graph, IntGraph, QParams, Quantize, Shape, Softmax, Value
from tests.support.single_layers import BASELINE, V3

X86 = (BASELINE, V3, find("x86-64-v4-vnni"), find("native"))
HERE = [pytest.param(t, id=f"{t.name}-{i}") for i, t in enumerate(X86) if t.runs_here()]
EMULATED = [
    pytest.param(
        target,
        id=target.name,
        marks=[
            pytest.mark.arm,
            pytest.mark.skipif((why := missing(target)) is not None, reason=str(why)),
        ],
    )
    for target in (find("arm64"), find("armv7"))
]
SHAPES: tuple[Shape, ...] = (
    (1, 1000),
    (3, 5),
    (2, 1, 1, 1),
    (1, 33, 1, 1),
    (1, 3, 2, 40),
    (2, 17, 5, 13),
    (1, 4, 7, 1),
    (3, 21, 1, 16),
)


def ends(shape: Shape, q: QParams) -> IntGraph:
    """Return quantize, dequantize, softmax."""
    real = [Value(name, shape) for name in ("image", "real", "softmax")]
    nodes = (
        Quantize("quantize", ("image",), "x"),
        Dequantize("dequantize", ("x",), "real"),
        Softmax("last", ("real",), "softmax"),
    )
    values = {value.name: value for value in (*real, Value("x", shape, q))}
    return Graph("ends", ("image",), ("real", "softmax"), values, nodes)


def reals(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return values in and beyond the range, halves that round to even, and infinities."""
    values = rng.normal(0, 40, shape).astype(np.float32)
    halves = rng.random(shape) < 0.3
    values[halves] = np.floor(values[halves]) + np.float32(0.5)
    values.reshape(-1)[:2] = (np.inf, -np.inf)
    return values


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target", [*HERE, *EMULATED])
def test_ends_equal_the_reference(target: Target, shape: Shape, tmp_path: Path) -> None:
    rng = np.random.default_rng(sum(shape))
    bits = int(rng.integers(1, 9))
    q = QParams.full(float(rng.choice([0.37, 1.0])), int(rng.integers(0, 1 << bits)), bits)
    graph = ends(shape, q)
    program = build(graph, target, tmp_path).program
    image = {"image": reals(rng, shape)}
    expected = reference.run(graph, image)
    if target.runs_here():
        found = HostProgram.open(tmp_path, program).trace(image)
    else:
        found = EmulatedProgram(tmp_path, program, target=target).trace(image)
    np.testing.assert_array_equal(found["x"], expected["x"])
    np.testing.assert_array_equal(found["real"], expected["real"])
    np.testing.assert_allclose(found["softmax"], expected["softmax"], rtol=1e-5, atol=1e-6)
