"""How several rows of an image share the lanes of one dot product, and how lanes become codes.

A vector of codes holds, in each int32 lane, the codes of one channel and one column in ``rows``
neighbouring rows; a vector of weights the taps of these rows. One dot product then adds ``rows``
taps of every channel:

- ``VpdpbusdUnpacked``: four rows of 64 channels as bytes for vpdpbusd, by eight unpacking
  instructions.
- ``VpdpbusdPermuted``: four rows of 16 channels for vpdpbusd, put together and permuted; twice the
  work per vector, but it needs a quarter of the registers and fits any number of channels.
- ``VpmaddwdUnpacked``: two rows of 16 channels as int16 for vpmaddwd and an addition, on AVX2.

A sum of products is at most 2 * 255 * 128 (pairs) or 4 * 255 * 128 before it is added in int32.
Four accumulators become one vector of bytes as ``narrowing`` has it, and ``order`` says which
channel a lane holds so that these bytes are in the order of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import narrowed_order, unpacked
from gmpq.backends.tvm.kernels.cpu.isa.builder import Buffer, Expr, call_intrinsic, cast, store
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, Vpdpbusd
from gmpq.backends.tvm.target.cpu import CpuTarget

TRANSPOSED = np.arange(16).reshape(4, 4).T


@dataclass(frozen=True, slots=True)
class VpdpbusdUnpacked:
    """Four rows of 64 channels for VPDPBUSD, interleaved by VPUNPCKLBW, VPUNPCKHBW and the like."""

    rows: int = 4
    channels: int = 64
    vectors: int = 4  # of a block's channels
    lanes: int = 16
    pixels: int = 1  # whose accumulators become one vector of bytes
    dtype: str = "int8"  # of codes and weights
    elements: int = 64  # of a vector of codes or weights
    interleave_cycles: float = 1.6  # of one vector of codes
    product_cycles: float = 0.5
    epilogue_cycles: float = 1.6
    spill_cycles: float = 0.0  # of each row of outputs after the first
    instruction: str = Vpdpbusd.instruction

    @property
    def order(self) -> Array:
        """Channel of each lane, int64 [vectors, lanes]."""
        return narrowed_order(16)

    @property
    def permutation(self) -> Array:
        """Int8 [64], unused: unpacking needs no permutation."""
        return np.zeros(64, np.int8)

    def interleaved(self, rows: list[Expr], _permutation: Expr) -> list[Expr]:
        """Return the vectors of codes of four rows of a block."""
        low, high = ([unpacked(rows[i : i + 2], 1, half) for i in (0, 2)] for half in (0, 1))
        return [unpacked(pair, 2, half) for pair in (low, high) for half in (0, 1)]

    def accumulate(self, acc: Expr, codes: Expr, weights: Expr) -> Expr:
        """Return ``acc`` plus the products of four rows."""
        return call_intrinsic("llvm.x86.avx512.vpdpbusd.512", "int32x16", acc, codes, weights)

    def store(self, y: Buffer, places: list[Expr], codes: Expr) -> None:
        """Store the bytes of each pixel at its place."""
        (place,) = places
        store(y, place, codes, 64)


@dataclass(frozen=True, slots=True)
class VpdpbusdPermuted:
    """Four rows of 16 channels for VPDPBUSD, interleaved by VPERMB, or VPERMD and VPSHUFB."""

    permutes_bytes: bool  # by AVX-512 VBMI
    rows: int = 4
    channels: int = 16
    vectors: int = 1
    lanes: int = 16
    pixels: int = 4
    dtype: str = "int8"
    elements: int = 64
    product_cycles: float = 0.5
    epilogue_cycles: float = 2.2
    spill_cycles: float = 0.0
    instruction: str = Vpdpbusd.instruction

    @property
    def interleave_cycles(self) -> float:
        """Cycles to make one vector of codes."""
        return 2.2 if self.permutes_bytes else 2.7

    @property
    def order(self) -> Array:
        """Channel of each lane, int64 [vectors, lanes]."""
        return np.arange(16)[None]

    @property
    def permutation(self) -> Array:
        """Int8 [64]: the byte that each byte of a vector takes; a kernel reads it from memory.

        LLVM would split a permutation that it knows into many instructions.
        """
        within_quarters = np.arange(4)[:, None, None] * 16 + TRANSPOSED
        permutation = np.arange(64).reshape(4, 16).T if self.permutes_bytes else within_quarters
        return permutation.reshape(-1).astype(np.int8)

    def interleaved(self, rows: list[Expr], permutation: Expr) -> list[Expr]:
        """Return the vector of codes of four rows of a block."""
        whole = T.reinterpret("int8x64", T.Shuffle(rows, list(range(64))))
        if self.permutes_bytes:
            return [call_intrinsic("llvm.x86.avx512.permvar.qi.512", "int8x64", whole, permutation)]
        dwords, numbers = T.reinterpret("int32x16", whole), TRANSPOSED.reshape(-1).tolist()
        order = T.Shuffle([T.int32(n) for n in numbers], list(range(16)))
        reordered = call_intrinsic("llvm.x86.avx512.permvar.si.512", "int32x16", dwords, order)
        codes = T.reinterpret("int8x64", reordered)
        return [call_intrinsic("llvm.x86.avx512.pshuf.b.512", "int8x64", codes, permutation)]

    def accumulate(self, acc: Expr, codes: Expr, weights: Expr) -> Expr:
        """Return ``acc`` plus the products of four rows."""
        return call_intrinsic("llvm.x86.avx512.vpdpbusd.512", "int32x16", acc, codes, weights)

    def store(self, y: Buffer, places: list[Expr], codes: Expr) -> None:
        """Store the bytes of each pixel at its place."""
        for i, place in enumerate(places):
            lanes = [16 * part + 4 * i + byte for part in range(4) for byte in range(4)]
            store(y, place, T.Shuffle([codes], lanes), 16)


@dataclass(frozen=True, slots=True)
class VpmaddwdUnpacked:
    """Two rows of 16 channels as int16 for VPMADDWD, interleaved by VPUNPCKLWD and VPUNPCKHWD."""

    rows: int = 2
    channels: int = 16
    vectors: int = 2
    lanes: int = 8
    pixels: int = 2
    dtype: str = "int16"
    elements: int = 16
    interleave_cycles: float = 1.0
    product_cycles: float = 0.6
    epilogue_cycles: float = 2.0
    spill_cycles: float = 1.5
    instruction: str = Int16Dot().instruction

    @property
    def order(self) -> Array:
        """Channel of each lane, int64 [vectors, lanes]."""
        vector, lane = np.indices((2, 8))
        return lane // 4 * 8 + vector * 4 + lane % 4

    @property
    def permutation(self) -> Array:
        """Int8 [64], unused: unpacking needs no permutation."""
        return np.zeros(64, np.int8)

    def interleaved(self, rows: list[Expr], _permutation: Expr) -> list[Expr]:
        """Return the vectors of codes of two rows of a block."""
        int16s = [cast("int16", 16, row) for row in rows]
        return [unpacked(int16s, 2, half) for half in (0, 1)]

    def accumulate(self, acc: Expr, codes: Expr, weights: Expr) -> Expr:
        """Return ``acc`` plus the products of two rows."""
        return acc + call_intrinsic("llvm.x86.avx2.pmadd.wd", "int32x8", codes, weights)

    def store(self, y: Buffer, places: list[Expr], codes: Expr) -> None:
        """Store the bytes of each pixel at its place."""
        for i, place in enumerate(places):
            lanes = [16 * part + 8 * i + byte for part in range(2) for byte in range(8)]
            store(y, place, T.Shuffle([codes], lanes), 16)


Lanes: TypeAlias = VpdpbusdUnpacked | VpdpbusdPermuted | VpmaddwdUnpacked


def lanes_for(target: CpuTarget) -> tuple[Lanes, ...]:
    """Return the ways to fill lanes that the target has, widest first."""
    if "avx512vnni" in target.features:
        return VpdpbusdUnpacked(), VpdpbusdPermuted("avx512vbmi" in target.features)
    return (VpmaddwdUnpacked(),) if "avx2" in target.features else ()
