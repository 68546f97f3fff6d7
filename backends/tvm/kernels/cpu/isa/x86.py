"""Dot products of x86: VPDPBUSD, VPMADDUBSW, VPMADDWD, VPDPWSSD (Intel SDM, volume 2).

An accumulator has ``lanes`` output channels. One step multiplies consecutive input codes of one
pixel, broadcast to all lanes as one int32, with ``vectors`` weight vectors. ``pack`` lays the
weights out as the step reads them. Every step is exact in int32:

- ``Vpdpbusd`` adds four u8 * s8 products without saturation.
- ``Vpmaddubsw`` adds two u8 * s8 products in int16 with saturation, which never acts if
  2 * (2**a - 1) * 2**(w - 1) <= 32767, that is a + w <= 15; VPMADDWD by ones widens.
- ``Vpmaddwd`` takes bytes too: codes are widened to int16 in registers, weights lie as int16, and
  two products are added in int32, at most 2 * 255 * 128.
- ``Int16Dot`` takes codes that lie as int16 in memory, by VPMADDWD or VPDPWSSD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, splat
from gmpq.backends.tvm.target.cpu import CpuTarget

Array: TypeAlias = NDArray[Any]

# LLVM's intrinsics by int32 lanes: VPMADDUBSW adds adjacent products u8 * s8 in int16 with
# saturation, VPMADDWD those of int16 in int32 (Intel SDM).
VPMADDUBSW = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128",
    8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}
VPMADDWD = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}


@dataclass(frozen=True, slots=True)
class Vpdpbusd:
    """VPDPBUSD of AVX-512 VNNI: four u8 * s8 products a lane, added to int32."""

    lanes: int = 16
    vectors: int = 1
    dtype: str = "int8"
    elements: int = 64  # of one weight vector

    instruction: ClassVar[str] = "vpdpbusd"
    group: ClassVar[int] = 4  # codes that a step multiplies
    temporaries: ClassVar[int] = 1  # registers that hold no sums and no weights
    product_cycles: ClassVar[float] = 0.5
    operand_cycles: ClassVar[float] = 0.0

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 1, lanes * 4] of weights [..., lanes, 4]."""
        return weights.reshape(*weights.shape[:-2], 1, 64)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return the vectors that one int32 of four codes is broadcast to."""
        return [T.reinterpret("int8x64", splat(codes, 16))]

    def product(self, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return the sum of the four products per lane."""
        return self.accumulate(splat(T.int32(0), self.lanes), operands, weights)

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        return call_intrinsic(
            "llvm.x86.avx512.vpdpbusd.512", "int32x16", acc, operands[0], weights[0]
        )


@dataclass(frozen=True, slots=True)
class Vpmaddubsw:
    """VPMADDUBSW of SSSE3, AVX2 or AVX-512 BW, where no pair of products saturates.

    ``run`` steps may be added as int16 ``pairs`` before they must ``widen``.
    """

    lanes: int = 8
    run: int = 1
    vectors: int = 1
    dtype: str = "int8"

    group: ClassVar[int] = 4
    temporaries: ClassVar[int] = 2
    operand_cycles: ClassVar[float] = 0.0

    @property
    def instruction(self) -> str:
        """Of a step; a run widens too rarely to count."""
        return "vpmaddubsw+vpmaddwd+vpaddd" if self.run == 1 else "vpmaddubsw+vpaddw"

    @property
    def product_cycles(self) -> float:
        """Three ports multiply and add; widening after a run goes through memory."""
        return 1.0 if self.run == 1 else 2 / 3 + 1.5 / self.run

    @property
    def elements(self) -> int:
        """Of one weight vector."""
        return 4 * self.lanes

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 1, lanes * 4]."""
        return weights.reshape(*weights.shape[:-2], 1, self.elements)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return the four codes in every lane."""
        return [T.reinterpret(f"int8x{self.elements}", splat(codes, self.lanes))]

    def pairs(self, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return the sums of two products each, two int16 per lane."""
        intrinsic = VPMADDUBSW[self.lanes]
        return call_intrinsic(intrinsic, f"int16x{2 * self.lanes}", operands[0], weights[0])

    def widen(self, pairs: Expr) -> Expr:
        """Return the sum of both int16 of each lane."""
        ones = splat(T.int16(1), 2 * self.lanes)
        return call_intrinsic(VPMADDWD[self.lanes], f"int32x{self.lanes}", pairs, ones)

    def product(self, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return the sum of the four products per lane."""
        return self.widen(self.pairs(operands, weights))

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        return acc + self.product(operands, weights)


@dataclass(frozen=True, slots=True)
class Vpmaddwd:
    """VPMADDWD of SSE2, AVX2 or AVX-512 BW for any bits: even and odd codes as int16 pairs."""

    lanes: int = 8
    vectors: int = 2
    dtype: str = "int16"

    instruction: ClassVar[str] = "vpmaddwd+vpaddd"
    temporaries: ClassVar[int] = 2
    product_cycles: ClassVar[float] = 4 / 3
    operand_cycles: ClassVar[float] = 2 / 3

    @property
    def elements(self) -> int:
        """Of one weight vector."""
        return 2 * self.lanes

    def pack(self, weights: Array) -> Array:
        """Return int16 [..., 2, lanes * 2]: channels 0 and 2, then 1 and 3."""
        halves = [weights[..., 0::2], weights[..., 1::2]]
        flat = [half.reshape(*half.shape[:-2], self.elements) for half in halves]
        return np.stack(flat, axis=-2).astype(np.int16)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return codes 0 and 2, then 1 and 3, as int16 in every lane."""
        both = T.reinterpret(f"uint16x{self.elements}", splat(codes, self.lanes))
        even = T.bitwise_and(both, splat(T.uint16(255), self.elements))
        odd = T.shift_right(both, splat(T.uint16(8), self.elements))
        return [T.reinterpret(f"int16x{self.elements}", half) for half in (even, odd)]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        for codes, weight in zip(operands, weights, strict=True):
            acc = acc + call_intrinsic(VPMADDWD[self.lanes], f"int32x{self.lanes}", codes, weight)
        return acc


@dataclass(frozen=True, slots=True)
class Int16Dot:
    """VPMADDWD or VPDPWSSD for codes that are int16 already: a step multiplies two of them."""

    lanes: int = 8
    fused: bool = False  # AVX-512 VNNI: vpdpwssd
    vectors: int = 1
    dtype: str = "int16"

    group: ClassVar[int] = 2
    temporaries: ClassVar[int] = 2
    operand_cycles: ClassVar[float] = 0.0

    @property
    def instruction(self) -> str:
        """Of a step."""
        return "vpdpwssd" if self.fused else "vpmaddwd+vpaddd"

    @property
    def product_cycles(self) -> float:
        """Two fused multiply-adds a cycle, or about three ports that multiply and add."""
        return 0.5 if self.fused else 0.64

    @property
    def elements(self) -> int:
        """Of one weight vector."""
        return 2 * self.lanes

    def pack(self, weights: Array) -> Array:
        """Return int16 [..., 1, lanes * 2] of weights [..., lanes, 2]."""
        return weights.reshape(*weights.shape[:-2], 1, self.elements).astype(np.int16)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return the two codes in every lane."""
        return [T.reinterpret(f"int16x{self.elements}", splat(codes, self.lanes))]

    def product(self, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return the sum of the two products per lane."""
        return call_intrinsic(VPMADDWD[self.lanes], f"int32x{self.lanes}", operands[0], weights[0])

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the two products per lane."""
        if self.fused:
            pair = (operands[0], weights[0])
            return call_intrinsic("llvm.x86.avx512.vpdpwssd.512", "int32x16", acc, *pair)
        return acc + self.product(operands, weights)


def vpmaddubsw_lanes(target: CpuTarget) -> int | None:
    """Return the int32 lanes of the widest vpmaddubsw and vpmaddwd; None without AVX2."""
    if "avx512bw" in target.features:
        return 16
    return 8 if "avx2" in target.features else None
