"""What a Winograd product's sums are scaled by, on the way in and on the way out."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, splat
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import Transform

WORD = 1 << 32


def power_of_two(transform: Transform) -> int:
    """Return the largest power of two that divides the scale."""
    return transform.scale & -transform.scale


def odd_part(transform: Transform) -> int:
    """Return the scale without its power of two."""
    return transform.scale // power_of_two(transform)


def divided(value: Expr, transform: Transform, lanes: int) -> Expr:
    """Return ``value`` over the odd part of the scale, which divides it: its inverse modulo 2**32.

    The power of two is left to the factor: float32 holds both to the same digits.
    """
    odd = odd_part(transform)
    if odd == 1:
        return value
    inverse = (pow(odd, -1, WORD) + WORD // 2) % WORD - WORD // 2
    return value * splat(T.int32(inverse), lanes)
