"""Requantized copies: the same real numbers as codes of another scale or width.

``kernels/requant.py`` finds the one factor of

    y = clip(round_half_even((x - z_x) * factor) + z_y, low, high)

if there is one. On vectors of bytes a cheaper form in int16, a fixed-point
multiplication, mostly equals that:

    y = clip((((256 * x * multiplier) >> 16) + addend) >> shift, low, high)

It is tried on all 256 codes too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import (
    INT32_LANES,
    clipped,
    to_bytes,
    unpacked,
)
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, cast, splat, to_codes
from gmpq.backends.tvm.kernels.requant import CODES, exact_factor, requantized
from gmpq.ir import QParams
from gmpq.numerics import Codes

INT16 = np.iinfo(np.int16)
WORD = 1 << 16
VPMULHUW = {8: "llvm.x86.avx2.pmulhu.w", 16: "llvm.x86.avx512.pmulhu.w.512"}


@dataclass(frozen=True, slots=True)
class FixedPointScale:
    """The fixed-point factor of the form in int16: VPMULHUW, a saturated addition, VPSRAW."""

    multiplier: int  # unsigned
    addend: int
    shift: int


@dataclass(frozen=True, slots=True)
class RequantizedCopy:
    """How codes of ``source`` become codes of ``q``."""

    source: QParams
    q: QParams
    factor: float
    fixed_point: FixedPointScale | None

    @classmethod
    def between(cls, source: QParams, q: QParams) -> RequantizedCopy | None:
        """Return the copy, or None where no single factor maps all codes exactly."""
        factor = exact_factor(source, q)
        if factor is None:
            return None
        return cls(source, q, float(factor), exact_fixed_point(source, q, float(factor)))

    def codes(self, codes: Expr, size: int) -> Expr:
        """Return the copy of a vector of ``size`` codes."""
        if self.fixed_point is not None and size in INT32_LANES:
            return self._by_fixed_point(self.fixed_point, codes, INT32_LANES[size])
        centred = cast("int32", size, codes) - splat(T.int32(self.source.zero_point), size)
        steps = cast("float32", size, centred) * splat(T.float32(self.factor), size)
        return to_codes(steps, self.q, size)

    def _by_fixed_point(self, scale: FixedPointScale, codes: Expr, lanes: int) -> Expr:
        """Return the copy of four vectors of ``lanes`` codes each."""
        dtype, size = f"int16x{2 * lanes}", 4 * lanes
        signed = (scale.multiplier + WORD // 2) % WORD - WORD // 2
        multiplier, addend, shift = (
            splat(T.int16(n), 2 * lanes) for n in (signed, scale.addend, scale.shift)
        )
        results = []
        for half in (0, 1):
            raised = unpacked([splat(T.uint8(0), size), codes], 1, half)  # 256 * x
            upper = call_intrinsic(VPMULHUW[lanes], dtype, T.reinterpret(dtype, raised), multiplier)
            total = call_intrinsic("llvm.sadd.sat", dtype, upper, addend)
            results.append(T.shift_right(total, shift))
        return clipped(to_bytes(results, lanes), self.q, size)


def exact_fixed_point(source: QParams, q: QParams, factor: float) -> FixedPointScale | None:
    """Return constants that requantize every code as the definition does, or None.

    The most bits are tried first.
    """
    expected = requantized(source, q)
    shifts = [shift for shift in range(14, -1, -1) if factor * (256 << shift) < WORD - 2]
    for shift, step in product(shifts, (0, 1, -1)):
        multiplier = max(round(factor * (256 << shift)) + step, 0)
        scale = FixedPointScale(multiplier, _addend(expected, q, multiplier, shift), shift)
        if np.array_equal(expected, by_fixed_point(scale, q)):
            return scale
    return None


def _addend(expected: Codes, q: QParams, multiplier: int, shift: int) -> int:
    """Return the addend between the bounds that the codes set, if there is one.

    The sum before the shift must be at least ``code << shift`` where a code is expected, unless it
    is the lowest, and less than ``(code + 1) << shift``, unless it is the highest.
    """
    least = (expected.astype(np.int64) << shift) - _products(multiplier)
    most = least + (1 << shift) - 1
    lowest = max(least[expected > q.low], default=INT16.min)
    highest = min(most[expected < q.high], default=INT16.max)
    return int(np.clip((lowest + highest) // 2, INT16.min, INT16.max))


def _products(multiplier: int) -> NDArray[np.int64]:
    """Return the upper halves of the products with each code times 256."""
    return (CODES.astype(np.int64) << 8) * multiplier >> 16


def by_fixed_point(scale: FixedPointScale, q: QParams) -> Codes:
    """Return the copy of each of the 256 codes, uint8 [256], as the instructions make it."""
    products = _products(scale.multiplier).astype(np.uint16).view(np.int16).astype(np.int64)
    total = np.clip(products + scale.addend, INT16.min, INT16.max) >> scale.shift
    codes: Codes = np.clip(np.clip(total, 0, 255), q.low, q.high).astype(np.uint8)
    return codes
