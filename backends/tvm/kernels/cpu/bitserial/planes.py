"""Weights as planes of bits: a sign, and the digits of the magnitude.

A weight is w = s * sum over j of c_j * m_j with m_j in {0, 1} and c_j a power of two; n = 1 where
s = -1. A code is x = sum over i < p of 2**i * a_i, and flipping all its bits leaves
2**p - 1 - x, so that

    w * x  =  sum over i, j of  c_j * 2**i * ((a_i XOR n) AND m_j)   +  (2**p - 1) * min(w, 0).

The last term is a constant of the layer, and all others are positive. A weight of b bits takes b
planes, as digits of two's complement would, but only b - 1 of them are counted; if all weights are
-1 and +1, the sign alone says everything, and if none is negative, there is no sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmpq.backends.tvm.kernels.base import Array

WORD = 32  # bits of a plane in one lane


@dataclass(frozen=True, slots=True)
class PlaneForm:
    """Which planes there are."""

    signed: bool
    masked: bool  # else all magnitudes are one, and have no plane
    factors: tuple[int, ...]  # c_j, ascending

    @property
    def stored(self) -> int:
        """Planes: the sign, and the digits."""
        return self.signed + (len(self.factors) if self.masked else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Bit planes of weights."""

    form: PlaneForm
    bits: Array  # bool [planes, O, ...]: the sign first

    @property
    def sum(self) -> Array:
        """The weights that the planes stand for, int32 [O, ...]."""
        digits = self.bits[self.form.signed :]
        factors = np.array(self.form.factors).reshape(-1, *[1] * (self.bits.ndim - 1))
        magnitude: Array = (factors * digits).sum(axis=0) if self.form.masked else np.array(1)
        return np.where(self.bits[0], -magnitude, magnitude) if self.form.signed else magnitude


def planes_of(codes: Array) -> Planes:
    """Return the fewest bit planes of weights ``codes``, int8 [O, ...]."""
    negative, magnitude = codes < 0, np.abs(codes.astype(np.int32))
    signs = [negative] if negative.any() else []
    if signs and (magnitude == 1).all():
        return Planes(PlaneForm(signed=True, masked=False, factors=(1,)), np.stack(signs))
    digits = {1 << j: (magnitude >> j) & 1 == 1 for j in range(int(magnitude.max()).bit_length())}
    used = {factor: bits for factor, bits in digits.items() if bits.any()} or {1: magnitude > 0}
    form = PlaneForm(bool(signs), masked=True, factors=tuple(used))
    return Planes(form, np.stack([*signs, *used.values()]))


def packed_words(bits: Array) -> Array:
    """Return int32 [..., n / 32] of bool [..., n]; the first bit is the lowest."""
    count = -(-bits.shape[-1] // WORD) * WORD
    padded = np.zeros((*bits.shape[:-1], count), bool)
    padded[..., : bits.shape[-1]] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<i4")
