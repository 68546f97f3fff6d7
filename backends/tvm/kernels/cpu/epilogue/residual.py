"""Sums of codes of one scale, on vectors of bytes.

    y = clip(a - z_a + b - z_b + z_y, low, high)

Of the differences a - z_a and z_a - a, saturated at zero, one is zero. So if z_b = z_y,

    y = clip(saturated(saturated(b + (a - z_a)) - (z_a - a)), low, high)

and bytes are wide enough. Otherwise the sum is made in int16.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import INT32_LANES, added, clipped
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, cast, splat
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import QParams


@dataclass(frozen=True, slots=True)
class Residual:
    """The other term of an addition that follows a layer, and the sum's codes."""

    layout: Layout
    q: QParams
    total: QParams

    def sum(self, own: Expr, q: QParams, term: Expr, lanes: int) -> Expr:
        """Return the codes of the sum of ``lanes`` codes of the layer, of ``q``, and the term's."""
        if self.q.zero_point == self.total.zero_point:
            codes = _moved(term, own, q.zero_point, lanes)
        elif q.zero_point == self.total.zero_point:
            codes = _moved(own, term, self.q.zero_point, lanes)
        else:
            shift = self.total.zero_point - q.zero_point - self.q.zero_point
            return _wide_sum(own, term, shift, self.total, lanes)
        return clipped(codes, self.total, lanes)


def _moved(codes: Expr, by: Expr, zero_point: int, lanes: int) -> Expr:
    """Return uint8 ``codes + by - zero_point``, saturated."""
    dtype, zero = f"uint8x{lanes}", splat(T.uint8(zero_point), lanes)
    up, down = (call_intrinsic("llvm.usub.sat", dtype, *pair) for pair in ((by, zero), (zero, by)))
    return call_intrinsic(
        "llvm.usub.sat", dtype, call_intrinsic("llvm.uadd.sat", dtype, codes, up), down
    )


def _wide_sum(a: Expr, b: Expr, shift: int, q: QParams, lanes: int) -> Expr:
    """Return uint8 ``a + b + shift``, clipped as ``q`` has it."""
    if lanes in INT32_LANES:
        return clipped(added(a, b, shift, INT32_LANES[lanes]), q, lanes)
    terms = [cast("int16", lanes, term) for term in (a, b)]
    low, high = (splat(T.int16(end), lanes) for end in (q.low, q.high))
    total = terms[0] + terms[1] + splat(T.int16(shift), lanes)
    return cast("uint8", lanes, T.max(T.min(total, high), low))
