"""What a Winograd product's sums are scaled by, on the way in and on the way out."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.winograd_algebra import Transform
from gmpq.backends.tvm.script import Expr, splat

WORD = 1 << 32


def odd_part(transform: Transform) -> int:
    """Return the scale without its power of two."""
    return transform.scale // (transform.scale & -transform.scale)


def divided(value: Expr, transform: Transform, lanes: int) -> Expr:
    """Return ``value`` over the scale, which divides it: the inverse modulo 2**32, then a shift.

    A scale that is a power of two is left to the factor.
    """
    odd = odd_part(transform)
    if odd == 1:
        return value
    shift = (transform.scale // odd).bit_length() - 1
    inverse = (pow(odd, -1, WORD) + WORD // 2) % WORD - WORD // 2
    return T.shift_right(value * splat(T.int32(inverse), lanes), splat(T.int32(shift), lanes))
