"""Dot-product instructions: how four codes times four weights reach an int32 lane.

An accumulator has ``lanes`` output channels. One step multiplies four consecutive input codes of
one pixel, broadcast to all lanes as one int32, with ``vectors`` weight vectors. ``pack`` lays the
weights [..., lanes, 4] out as the step reads them. Every step is exact in int32:

- ``Vnni``: vpdpbusd adds four u8 * s8 products without saturation (Intel SDM, VPDPBUSD).
- ``Narrow``: vpmaddubsw adds two u8 * s8 products in int16 with saturation, which never acts if
  2 * (2**a - 1) * 2**(w - 1) <= 32767, that is a + w <= 15; vpmaddwd by ones widens.
- ``Wide``: codes and weights as int16, vpmaddwd adds two products in int32: at most
  2 * 255 * 128.
- ``Portable``: widening multiplications that any processor has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.script import Expr, cast, pure, splat
from gmpq.backends.tvm.target import Target

LOW_BYTES = 0x00FF00FF


@dataclass(frozen=True, slots=True)
class Vnni:
    """AVX-512 VNNI."""

    lanes: int = 16
    vectors: int = 1
    dtype: str = "int8"
    elements: int = 64  # of one weight vector

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 1, lanes * 4] of weights [..., lanes, 4]."""
        return weights.reshape(*weights.shape[:-2], 1, 64)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return the vectors that one int32 of four codes is broadcast to."""
        return [T.reinterpret("int8x64", splat(codes, 16))]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        return pure("llvm.x86.avx512.vpdpbusd.512", "int32x16", acc, operands[0], weights[0])


@dataclass(frozen=True, slots=True)
class Narrow:
    """AVX2 with a + w <= 15."""

    lanes: int = 8
    vectors: int = 1
    dtype: str = "int8"
    elements: int = 32

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 1, lanes * 4]."""
        return weights.reshape(*weights.shape[:-2], 1, 32)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return the four codes in every lane."""
        return [T.reinterpret("int8x32", splat(codes, 8))]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        pairs = pure("llvm.x86.avx2.pmadd.ub.sw", "int16x16", operands[0], weights[0])
        ones = splat(T.int16(1), 16)
        return acc + pure("llvm.x86.avx2.pmadd.wd", "int32x8", pairs, ones)


@dataclass(frozen=True, slots=True)
class Wide:
    """AVX2 for any bits: even and odd codes as int16 pairs."""

    lanes: int = 8
    vectors: int = 2
    dtype: str = "int16"
    elements: int = 16

    def pack(self, weights: Array) -> Array:
        """Return int16 [..., 2, lanes * 2]: channels 0 and 2, then 1 and 3."""
        halves = [weights[..., 0::2], weights[..., 1::2]]
        flat = [half.reshape(*half.shape[:-2], 16) for half in halves]
        return np.stack(flat, axis=-2).astype(np.int16)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return codes 0 and 2, then 1 and 3, as int16 in every lane."""
        both = splat(codes, 8)
        mask = splat(T.int32(LOW_BYTES), 8)
        odd = T.bitwise_and(T.shift_right(both, splat(T.int32(8), 8)), mask)
        pairs = [T.bitwise_and(both, mask), odd]
        return [T.reinterpret("int16x16", pair) for pair in pairs]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        for codes, weight in zip(operands, weights, strict=True):
            acc = acc + pure("llvm.x86.avx2.pmadd.wd", "int32x8", codes, weight)
        return acc


@dataclass(frozen=True, slots=True)
class Portable:
    """Any processor."""

    lanes: int = 4
    vectors: int = 4
    dtype: str = "int8"
    elements: int = 4

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 4, lanes]: one vector per input channel."""
        return np.ascontiguousarray(np.swapaxes(weights, -1, -2))

    def operands(self, codes: Expr) -> list[Expr]:
        """Return each of the four codes in every lane."""
        return [
            splat(T.bitwise_and(T.shift_right(codes, T.int32(8 * i)), T.int32(255)), self.lanes)
            for i in range(4)
        ]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        for codes, weight in zip(operands, weights, strict=True):
            acc = acc + codes * cast("int32", self.lanes, weight)
        return acc


Dot: TypeAlias = Vnni | Narrow | Wide | Portable


def best_dot(target: Target, highest_code: int, weights: Array) -> Dot:
    """Return the fastest exact instruction for codes up to ``highest_code``."""
    if "avx512vnni" in target.features:
        return Vnni()
    if "avx2" in target.features:
        largest_pair = 2 * highest_code * int(np.abs(weights.astype(np.int32)).max(initial=0))
        return Narrow() if largest_pair <= np.iinfo(np.int16).max else Wide()
    return Portable()
