"""Four vectors of steps become codes in the order of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import (
    TOGETHER,
    in_order,
    memory_order,
    narrowed,
    narrowed_order,
)
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Expr,
    c_function,
    in_registers,
    load,
    store,
    view,
)
from gmpq.ir import QParams
from gmpq.numerics import round_half_even
from tests.support.c_functions import compiled
from tests.support.single_layers import V3, WITHOUT_VNNI

WIDE = {8: V3, 16: WITHOUT_VNNI}
here = [pytest.param(n, id=t.name) for n, t in WIDE.items() if t.runs_here()]
ENCODINGS = [
    pytest.param(QParams.full(1.0, 0, 8), id="full"),
    pytest.param(QParams.full(1.0, 128, 8), id="signed"),
    pytest.param(QParams(1.0, 255, 8, 3, 200), id="clipped"),
    pytest.param(QParams(1.0, 7, 4, 7, 15), id="four-bits"),
    pytest.param(QParams(1.0, 3, 8, 9, 9), id="one-code"),
]


def as_packed(vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the elements of four vectors as two steps of packing leave them."""
    parts = vectors.reshape(TOGETHER, -1, 4)

    def pack(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([first, second], axis=1)  # within each 128 bits

    return pack(pack(parts[0], parts[1]), pack(parts[2], parts[3])).reshape(-1)


@pytest.mark.parametrize("lanes", [8, 16])
def test_one_permutation_of_words_restores_the_order(lanes: int) -> None:
    everything = np.arange(TOGETHER * lanes)
    words = as_packed(everything).reshape(-1, 4)
    np.testing.assert_array_equal(everything, words[memory_order(lanes)].reshape(-1))


@pytest.mark.parametrize("lanes", [8, 16])
def test_lanes_whose_codes_are_packed_in_order(lanes: int) -> None:
    np.testing.assert_array_equal(np.arange(TOGETHER * lanes), as_packed(narrowed_order(lanes)))


def packing(q: QParams, lanes: int, groups: int) -> PrimFunc:
    """Return ``f(steps, codes)`` of ``groups`` of four vectors."""
    size = TOGETHER * lanes

    def body(steps_: Expr, codes_: Expr) -> None:
        steps, codes = (
            view(steps_, "float32", groups * size),
            view(codes_, "uint8", groups * size),
        )
        with tirx.serial(0, groups) as group:
            four = [load(steps, group * size + i * lanes, lanes) for i in range(TOGETHER)]
            store(
                codes, group * size, in_order(narrowed(in_registers(four), q, lanes), lanes), size
            )

    return c_function((("steps", "float32"), ("codes", "uint8")), body)


@pytest.mark.parametrize("q", ENCODINGS)
@pytest.mark.parametrize("lanes", here)
def test_codes_equal_the_definition(lanes: int, q: QParams, tmp_path: Path) -> None:
    """Every half step near the codes, and steps up to the largest that is proven."""
    near = np.arange(-1300, 1300) / 2
    far = np.ldexp(1.0, np.arange(8, 31))
    limits = [2147483520.0, 32767.5, 32768.5, 65535.5]
    steps = np.concatenate([near, far, -far, limits, np.negative(limits)]).astype(np.float32)
    groups = -(-len(steps) // (TOGETHER * lanes))
    steps = np.resize(steps, groups * TOGETHER * lanes)
    codes = np.zeros(len(steps), np.uint8)
    compiled(packing(q, lanes, groups), WIDE[lanes], tmp_path)(steps, codes)
    expected = np.clip(round_half_even(steps) + np.float32(q.zero_point), q.low, q.high)
    np.testing.assert_array_equal(expected.astype(np.uint8), codes)
