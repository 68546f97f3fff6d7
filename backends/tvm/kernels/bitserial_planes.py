"""Weights as sums of bit planes.

A weight is

    w = offset + sum over j of c_j * b_j,      b_j in {0, 1},

with as few planes b_j as the layer's codes allow: one for the pair -1, +1 (w = -1 + 2 b); one for
plus and one for minus ones if the codes are -1, 0, +1; else the digits of two's complement, whose
top digit counts negative. A product of a weight and a code x = sum over i of 2**i a_i then is

    w * x = offset * x + sum over i, j of c_j * 2**i * (a_i AND b_j).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmpq.backends.tvm.kernels.base import Array

WORD = 32  # bits of a plane in one lane


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Bit planes of weights."""

    offset: int
    factors: tuple[int, ...]  # c_j: powers of two, with a sign
    bits: Array  # bool [planes, ...weights]

    @property
    def sum(self) -> Array:
        """The weights."""
        signed = np.array(self.factors).reshape(-1, *[1] * (self.bits.ndim - 1))
        total: Array = self.offset + (signed * self.bits).sum(axis=0)
        return total


def planes_of(codes: Array) -> Planes:
    """Return the fewest planes whose sum is ``codes``."""
    values = set(np.unique(codes).tolist())
    if values == {-1, 1}:
        return Planes(-1, (2,), codes[None] > 0)
    if values <= {-1, 0, 1}:
        return _used(0, (1, -1), np.stack([codes > 0, codes < 0]))
    digits = max(int(codes.max()).bit_length(), int(-1 - codes.min()).bit_length())
    wide = codes.astype(np.int32)
    bits = np.stack([(wide >> j) & 1 == 1 for j in range(digits + 1)])
    return _used(0, (*(1 << j for j in range(digits)), -(1 << digits)), bits)


def _used(offset: int, factors: tuple[int, ...], bits: Array) -> Planes:
    """Return the planes that have a bit, at least one."""
    used = [j for j in range(len(factors)) if bits[j].any()] or [0]
    return Planes(offset, tuple(factors[j] for j in used), bits[used])


def words(bits: Array) -> Array:
    """Return int32 [..., n / 32] of bool [..., n]; the first bit is the lowest."""
    count = -(-bits.shape[-1] // WORD) * WORD
    padded = np.zeros((*bits.shape[:-1], count), bool)
    padded[..., : bits.shape[-1]] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<i4")
