"""Requantized copies equal the definition for all 256 codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.epilogue.requantized_copy import (
    RequantizedCopy,
    by_fixed_point,
    exact_fixed_point,
)
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, c_function, load, store, view
from gmpq.backends.tvm.kernels.requant import CODES, exact_factor, requantized
from gmpq.ir import QParams
from gmpq.numerics import dequantize, quantize, requantize
from tests.support.c_functions import compiled
from tests.support.single_layers import V3, WITHOUT_VNNI

scales = st.floats(2**-13, 8, width=32)
params = st.builds(
    lambda scale, zero_point, bits, code_range: QParams(
        scale, zero_point % (1 << bits), bits, *sorted(end % (1 << bits) for end in code_range)
    ),
    scales,
    st.integers(0, 255),
    st.integers(1, 8),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
)
BYTES = {4: V3, 16: V3, 32: V3, 64: WITHOUT_VNNI}  # of a vector; from 32 on int16 is used
here = [pytest.param(n, id=f"{n}-codes") for n, target in BYTES.items() if target.runs_here()]
PAIRS = [
    pytest.param(QParams.full(0.0371, 0, 8), QParams.full(0.52, 0, 4), id="relu-to-4-bits"),
    pytest.param(QParams.full(0.0371, 130, 8), QParams.full(0.77, 8, 4), id="signed-to-4-bits"),
    pytest.param(QParams.full(0.0371, 130, 8), QParams(0.4, 5, 6, 5, 50), id="to-6-bits"),
    pytest.param(QParams.full(0.0371, 200, 8), QParams.full(3.1, 1, 2), id="to-2-bits"),
    pytest.param(QParams.full(0.5, 9, 8), QParams.full(1.0, 4, 7), id="halves-with-ties"),
    pytest.param(QParams.full(1.0, 255, 8), QParams.full(0.002, 0, 8), id="far-apart"),
]


@given(params, params)
def test_a_factor_maps_every_code_as_the_definition(qx: QParams, qy: QParams) -> None:
    factor = exact_factor(qx, qy)
    if factor is None:
        return  # a table does it
    real = dequantize(CODES, qx.scale, qx.zero_point)
    expected = quantize(real, qy.scale, qy.zero_point, qy.low, qy.high)
    steps = CODES.astype(np.int32) - qx.zero_point
    found = requantize(steps, np.array(factor), qy.zero_point, qy.low, qy.high)
    np.testing.assert_array_equal(expected, found)
    words = exact_fixed_point(qx, qy, float(factor))
    if words is not None:
        np.testing.assert_array_equal(expected, by_fixed_point(words, qy))


@pytest.mark.parametrize("bits", range(1, 7))
def test_a_usual_narrow_copy_needs_no_floats(bits: int) -> None:
    copy = RequantizedCopy.between(
        QParams.full(0.0371, 0, 8), QParams.full(9.1 / (1 << bits), 0, bits)
    )
    assert copy is not None
    assert copy.fixed_point is not None


def test_ties_to_even_are_no_linear_function_in_int16() -> None:
    copy = RequantizedCopy.between(QParams.full(0.5, 0, 8), QParams.full(1.0, 0, 8))
    assert copy is not None
    assert copy.fixed_point is None


def copying(copy: RequantizedCopy, size: int) -> PrimFunc:
    """Return ``f(x, y)`` of all codes."""

    def body(x_: Expr, y_: Expr) -> None:
        x, y = view(x_, "uint8", 256), view(y_, "uint8", 256)
        for place in range(0, 256, size):
            store(y, place, copy.codes(load(x, place, size), size), size)

    return c_function((("x", "uint8"), ("y", "uint8")), body)


@pytest.mark.parametrize(("source", "q"), PAIRS)
@pytest.mark.parametrize("size", here)
def test_instructions_equal_the_definition(
    size: int, source: QParams, q: QParams, tmp_path: Path
) -> None:
    copy = RequantizedCopy.between(source, q)
    assert copy is not None
    y = np.zeros(256, np.uint8)
    compiled(copying(copy, size), BYTES[size], tmp_path)(CODES, y)
    np.testing.assert_array_equal(requantized(source, q), y)
