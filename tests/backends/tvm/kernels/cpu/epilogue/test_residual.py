"""Sums of codes on bytes equal the definition, for all pairs of codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tvm.script.ir_builder import tirx
from tvm.tirx import PrimFunc

from gmpq.backends import reference
from gmpq.backends.tvm.kernels.cpu.epilogue.residual import Residual
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, c_function, load, store, view
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import QParams
from tests.support.c_functions import compiled
from tests.support.single_layers import V3, WITHOUT_VNNI

PAIRS = 1 << 16
BYTES = {4: V3, 8: V3, 32: V3, 64: WITHOUT_VNNI}  # of a vector; fewer than 32 are not packed
here = [pytest.param(n, id=f"{n}-codes") for n, target in BYTES.items() if target.runs_here()]
ZERO_POINTS = [
    pytest.param((0, 0, 0), id="zeros"),
    pytest.param((100, 7, 7), id="term-as-total"),
    pytest.param((7, 100, 7), id="own-as-total"),
    pytest.param((255, 0, 0), id="own-at-the-end"),
    pytest.param((3, 250, 128), id="all-different"),
    pytest.param((255, 255, 0), id="lowest-shift"),
    pytest.param((0, 0, 255), id="highest-shift"),
]


def adding(residual: Residual, q: QParams, lanes: int) -> PrimFunc:
    """Return ``f(own, term, y)`` of all pairs."""

    def body(own_: Expr, term_: Expr, y_: Expr) -> None:
        own, term, y = (view(pointer, "uint8", PAIRS) for pointer in (own_, term_, y_))
        with tirx.serial(0, PAIRS // lanes) as i:
            codes = [load(side, i * lanes, lanes) for side in (own, term)]
            store(y, i * lanes, residual.sum(codes[0], q, codes[1], lanes), lanes)

    return c_function(tuple((name, "uint8") for name in ("own", "term", "y")), body)


@pytest.mark.parametrize("code_range", [(0, 255), (20, 255), (0, 180), (90, 91)], ids=str)
@pytest.mark.parametrize("zero_points", ZERO_POINTS)
@pytest.mark.parametrize("lanes", here)
def test_sums_of_all_codes_equal_the_reference(
    lanes: int, zero_points: tuple[int, int, int], code_range: tuple[int, int], tmp_path: Path
) -> None:
    own_q, term_q = (QParams.full(1.0, zero, 8) for zero in zero_points[:2])
    total = QParams(1.0, zero_points[2], 8, *code_range)
    residual = Residual(Layout(1, 1, 1, 1, 16), term_q, total)
    own, term = (side.reshape(-1).astype(np.uint8) for side in np.indices((256, 256)))
    y = np.zeros(PAIRS, np.uint8)
    compiled(adding(residual, own_q, lanes), BYTES[lanes], tmp_path)(own, term, y)
    np.testing.assert_array_equal(reference.add(own, term, own_q, term_q, total), y)
