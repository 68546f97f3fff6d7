"""Dot-product instructions: how four codes times four weights reach an int32 lane.

An accumulator has ``lanes`` output channels. One step multiplies four consecutive input codes of
one pixel, broadcast to all lanes as one int32, with ``vectors`` weight vectors. ``pack`` lays the
weights [..., lanes, 4] out as the step reads them. Every step is exact in int32:

- ``Vpdpbusd``, ``Vpmaddubsw``, ``Vpmaddwd``, ``Int16Dot``: the instructions of x86 (``x86``).
- ``Sdot``: the dot products of ARM (``arm_dot``).
- ``Int32Dot``: widening multiplications that any processor has.

``instruction`` names the sequence that multiplies and adds, by which its peak is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import Sdot
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, cast, splat
from gmpq.backends.tvm.kernels.cpu.isa.x86 import (
    Int16Dot,
    Vpdpbusd,
    Vpmaddubsw,
    Vpmaddwd,
    vpmaddubsw_lanes,
)
from gmpq.backends.tvm.target.cpu import CpuTarget

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Int32Dot:
    """Multiplications of int32 lanes that LLVM maps to any processor."""

    lanes: int = 4
    vectors: int = 4
    dtype: str = "int8"
    elements: int = 4

    instruction: ClassVar[str] = ""
    temporaries: ClassVar[int] = 2
    product_cycles: ClassVar[float] = 8.0
    operand_cycles: ClassVar[float] = 6.0

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


Dot: TypeAlias = Vpdpbusd | Vpmaddubsw | Vpmaddwd | Int16Dot | Sdot | Int32Dot


def best_dot(target: CpuTarget, highest_code: int, weights: Array) -> Dot:
    """Return the fastest exact instruction for codes up to ``highest_code``, weights [...]."""
    if "avx512vnni" in target.features:
        return Vpdpbusd()
    if "i8mm" in target.features:
        return Sdot(unsigned=True)
    if "dotprod" in target.features:
        return Sdot(shift=128 if highest_code > np.iinfo(np.int8).max else 0)
    lanes = vpmaddubsw_lanes(target)
    if lanes is None:
        return Int32Dot()
    largest_pair = 2 * highest_code * int(np.abs(weights.astype(np.int32)).max(initial=0))
    return Vpmaddubsw(lanes) if largest_pair <= np.iinfo(np.int16).max else Vpmaddwd(lanes)


def shift_of(dot: Dot) -> int:
    """Return what codes are multiplied less of."""
    return dot.shift if isinstance(dot, Sdot) else 0
