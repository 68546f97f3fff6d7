"""Bare loops of multiplications: what a kernel could reach if it did nothing else.

A register tile of ``rows`` broadcast operands times ``vectors`` vectors of weights runs again and
again over operands that lie in the first-level cache. Its accumulators stay in registers and are
stored once, so that LLVM keeps the multiplications. Sums wrap; nobody reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array, Call
from gmpq.backends.tvm.kernels.cpu.bitserial.x86_popcount import LaneCounter
from gmpq.backends.tvm.kernels.cpu.isa import amx
from gmpq.backends.tvm.kernels.cpu.isa.amx import DEPTH, Blocking
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    call_intrinsic,
    call_intrinsic_void,
    load,
    registers,
    splat,
    store,
    vector,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, Vpdpbusd, Vpmaddubsw, vpmaddubsw_lanes
from gmpq.backends.tvm.target import CpuTarget

OUTPUT = "y"
OUTPUT_BYTES = 4096  # the accumulators of any loop
CYCLES = 1_500_000  # of one call: half a millisecond, against which calling is short
STEPS = 64  # of operands; with the widest tile they take 20 KiB
TILE_STEPS = 4  # of AMX tiles; 16 KiB
TILES = {16: ((4, 3), (6, 2), (12, 1), (4, 2), (5, 2)), 32: ((6, 4), (12, 2), (14, 2), (8, 3))}


@dataclass(frozen=True, slots=True)
class BitPlanes:
    """AVX-512 VPOPCNTDQ, as ``bitserial`` multiplies one plane of codes by one of weights."""

    lanes: ClassVar[int] = 16
    dtype: ClassVar[str] = "int32"
    elements: ClassVar[int] = 16
    instruction: ClassVar[str] = LaneCounter.instruction
    product_cycles: ClassVar[float] = 1.5

    def operands(self, codes: Expr) -> list[Expr]:
        """Return 32 bits in every lane."""
        return [splat(codes, self.lanes)]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the number of common bits per lane."""
        both = T.bitwise_and(operands[0], weights[0])
        return acc + call_intrinsic("llvm.ctpop", vector("int32", self.lanes), both)


Dot: TypeAlias = Vpdpbusd | Vpmaddubsw | Int16Dot | BitPlanes


@dataclass(frozen=True, slots=True)
class DotLoop:
    """A register tile of dot products."""

    dot: Dot
    rows: int
    vectors: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.vectors}"

    @property
    def instruction(self) -> str:
        """What multiplies."""
        return self.dot.instruction

    @property
    def repeats(self) -> int:
        """Runs over all operands in one call."""
        return max(1, int(CYCLES / (STEPS * self.rows * self.vectors * self.dot.product_cycles)))

    @property
    def macs(self) -> int:
        """Products of one call."""
        bits = 32 if isinstance(self.dot, BitPlanes) else 1  # of one element
        return self.repeats * STEPS * self.rows * self.vectors * self.dot.elements * bits

    def call(self) -> Call:
        """Return the call, whose operands are constants."""
        rng = np.random.default_rng(0)
        codes = rng.integers(-(1 << 31), 1 << 31, self.rows * STEPS).astype(np.int32)
        weights = rng.integers(-8, 8, STEPS * self.vectors * self.dot.elements)
        return Call(self._function(), (), (codes, weights.astype(self.dot.dtype)), (OUTPUT,))

    def _function(self) -> PrimFunc:
        """Return ``f(x, w, y)``."""
        lane = ("int16", 2 * self.dot.lanes) if self._short else ("int32", self.dot.lanes)

        def body(x_: Expr, w_: Expr, y_: Expr) -> None:
            x = view(x_, "int32", self.rows * STEPS)
            w = view(w_, self.dot.dtype, STEPS * self.vectors * self.dot.elements)
            y = view(y_, lane[0], OUTPUT_BYTES // np.dtype(lane[0]).itemsize)
            acc = registers(self.rows * self.vectors, vector(*lane))
            for slot in acc:
                assign(slot, T.Cast(vector(*lane), splat(T.int32(0), lane[1])))
            with T.grid(self.repeats, STEPS) as (_, k):
                for slot, codes, weight in self._step(acc, x, w, k):
                    assign(slot, self._add(slot[0], codes, weight))
            for i, slot in enumerate(acc):
                store(y, i * lane[1], slot[0], lane[1])

        return c_function((("x", "int32"), ("w", self.dot.dtype), (OUTPUT, lane[0])), body)

    @property
    def _short(self) -> bool:
        """Whether sums stay in int16, as within a run of ``direct16``."""
        return isinstance(self.dot, Vpmaddubsw) and self.dot.run > 1

    def _add(self, acc: Expr, codes: Expr, weight: Expr) -> Expr:
        if isinstance(self.dot, Vpmaddubsw) and self._short:
            return acc + self.dot.pairs([codes], [weight])
        return self.dot.accumulate(acc, [codes], [weight])

    def _step(
        self, acc: list[Buffer], x: Buffer, w: Buffer, k: Expr
    ) -> Iterator[tuple[Buffer, Expr, Expr]]:
        """Yield every accumulator with its codes and weights."""
        elements = self.dot.elements
        kind = vector(self.dot.dtype, elements)
        weights, (codes,) = registers(self.vectors, kind), registers(1, kind)
        for n, weight in enumerate(weights):
            assign(weight, load(w, (k * self.vectors + n) * elements, elements))
        for row in range(self.rows):
            assign(codes, self.dot.operands(x[row * STEPS + k])[0])
            for n, weight in enumerate(weights):
                yield acc[row * self.vectors + n], codes[0], weight[0]


@dataclass(frozen=True, slots=True)
class TileLoop:
    """Two AMX tiles of codes times two of weights."""

    blocking: ClassVar[Blocking] = Blocking(True, 16, 1, 2, 2, False)
    instruction: ClassVar[str] = amx.INSTRUCTION
    tile_bytes: ClassVar[int] = 16 * DEPTH

    def __str__(self) -> str:
        return f"{self.blocking.tiles} x {self.blocking.vectors}"

    @property
    def repeats(self) -> int:
        """Runs over all operands in one call."""
        return CYCLES // (TILE_STEPS * amx.PRODUCT * self.blocking.accumulators)

    @property
    def macs(self) -> int:
        """Products of one call."""
        return self.repeats * TILE_STEPS * self.blocking.accumulators * 16 * self.tile_bytes

    def call(self) -> Call:
        """Return the call, whose operands are constants."""
        size = (2, TILE_STEPS * self.blocking.tiles * self.tile_bytes)
        codes, weights = np.random.default_rng(0).integers(0, 8, size).astype(np.int8)
        setup: Array = amx.configuration(self.blocking)
        return Call(self._function(), (), (setup, codes, weights), (OUTPUT,))

    def _function(self) -> PrimFunc:
        """Return ``f(setup, x, w, y)``."""
        b = self.blocking

        def body(setup: Expr, x_: Expr, w_: Expr, y_: Expr) -> None:
            size = TILE_STEPS * b.tiles * self.tile_bytes
            x, w = view(x_, "int8", size), view(w_, "int8", size)
            y = view(y_, "int32", OUTPUT_BYTES // 4)
            call_intrinsic_void("llvm.x86.ldtilecfg", setup)
            for i in range(b.accumulators):
                call_intrinsic_void("llvm.x86.tilezero", T.int8(i))
            with T.grid(self.repeats, TILE_STEPS) as (_, k):
                self._step(x, w, k)
            for i in range(b.accumulators):
                place = T.address_of(y[i * self.tile_bytes // 4])
                call_intrinsic_void("llvm.x86.tilestored64", T.int8(i), place, T.int64(DEPTH))
            call_intrinsic_void("llvm.x86.tilerelease")

        names = (("setup", "uint8"), ("x", "int8"), ("w", "int8"), (OUTPUT, "int32"))
        return c_function(names, body)

    def _step(self, x: Buffer, w: Buffer, k: Expr) -> None:
        b = self.blocking
        first = b.accumulators
        for i, memory in enumerate((x, x, w, w)):
            place = T.address_of(memory[(k * 2 + i % 2) * self.tile_bytes])
            call_intrinsic_void("llvm.x86.tileloadd64", T.int8(first + i), place, T.int64(DEPTH))
        for i, (tile, n) in enumerate(product(range(b.tiles), range(b.vectors))):
            operands = (T.int8(first + tile), T.int8(first + b.tiles + n))
            call_intrinsic_void("llvm.x86.tdpbusd", T.int8(i), *operands)


Loop: TypeAlias = DotLoop | TileLoop


def loops(target: CpuTarget) -> list[Loop]:
    """Return the loops of every sequence that ``target`` has, several tiles of each."""
    found: list[Loop] = [
        DotLoop(dot, rows, vectors)
        for dot in _dots(target)
        for rows, vectors in TILES[target.vector_registers]
    ]
    return [*found, *([TileLoop()] if "amx-int8" in target.features else [])]


def _dots(target: CpuTarget) -> list[Dot]:
    lanes = vpmaddubsw_lanes(target)
    found: list[Dot] = []
    if lanes is not None:
        found += [Vpmaddubsw(lanes), Vpmaddubsw(lanes, run=2), Int16Dot(lanes)]
    if "avx512vnni" in target.features:
        found += [Vpdpbusd(), Int16Dot(16, fused=True)]
    if {"avx512vpopcntdq", "avx512bw"} <= target.features:
        found.append(BitPlanes())
    return found


def chain(links: int) -> Call:
    """Return the call of ``links`` dependent steps: a multiplication and an addition each."""

    def body(y_: Expr) -> None:
        y = view(y_, "int32", 1)
        (slot,) = registers(1, "int32")
        assign(slot, y[0])
        with T.serial(0, links):
            assign(slot, slot[0] * slot[0] + T.int32(1))
        store(y, 0, slot[0], 1)

    return Call(c_function(((OUTPUT, "int32"),), body), (), (), (OUTPUT,))
