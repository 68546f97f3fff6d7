"""The products of Winograd convolution by dot products, in register tiles.

Per position, [tiles, channels] x [channels, outputs]. Operands are bytes, added in int32 by VNNI or
sdot, or they are int16, added in int32 by vpmaddwd or by smlal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import LANES, ByLane, Sdot, Smlal, add_by_lanes
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    clamped_start,
    load,
    registers,
    splat,
    store,
    vector,
)
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, Vpdpbusd, vpmaddubsw_lanes
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import (
    DotTiles,
    PositionWeights,
    ProductMemory,
    ProductSizes,
    steps,
)
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import NextWeights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_vnni_overflow import OverflowSteps
from gmpq.backends.tvm.target.cpu import VECTOR, CpuTarget
from gmpq.backends.tvm.target.pipeline import PipelineModel, pipeline_of

WinogradDot: TypeAlias = Vpdpbusd | Int16Dot | ByLane
MOST_ROWS, MOST_VECTORS = 14, 4
NAMES = {Int16Dot: "int16", Vpdpbusd: "vnni", Sdot: "sdot", Smlal: "smlal"}


@dataclass(frozen=True, slots=True)
class DotProduct(DotTiles):
    """Tiles that dot products multiply."""

    dot: WinogradDot
    overflow: OverflowSteps | None = None

    def __str__(self) -> str:
        text = f"{NAMES[type(self.dot)]} {self.rows} x {self.vectors} vectors"
        overflow = self.overflow
        if overflow is None:
            return text
        return f"{text}, {overflow.steps} overflow step{'s' if overflow.steps > 1 else ''}"

    @property
    def instruction(self) -> str:
        """What multiplies."""
        return self.dot.instruction

    def cycles(self, pipeline: PipelineModel) -> float:
        """Return predicted cycles of one position."""
        step = _step_cycles(self.dot, self.rows, self.vectors, pipeline)
        steps: float = self.blocks * self.depth
        if self.overflow is not None:
            steps += self.row_blocks * self.overflow.steps / self.overflow.positions
        return steps * step + self.blocks * self.rows * self.vectors * 2

    @property
    def table_size(self) -> int:
        """Elements of the setup's table."""
        return 1 if self.overflow is None else self.overflow.table_size(self.vectors)

    def multiply(self, memory: ProductMemory, at: PositionWeights, *, more: bool) -> None:
        """Write M of one position; ``more`` adds to what it holds."""
        m, (position, weights) = memory.m, at
        with T.serial(0, self.row_blocks) as block:
            first = clamped_start(block, self.rows, self.tiles)
            place = position * self.output_pitch + first * (self.vectors * self.lanes)
            codes = position * self.input_pitch + first * (self.pixel)
            acc = self._sums(memory, (codes, weights), position * self.row_blocks + block)
            self._add_overflow(acc, memory, position, codes)
            for i, slot in enumerate(acc):
                here = place + i * self.lanes
                total = load(m, here, self.lanes) + slot[0] if more else slot[0]
                store(m, here, total, self.lanes)

    def _sums(self, memory: ProductMemory, at: tuple[Expr, Expr], number: Expr) -> list[Buffer]:
        """Return the sums of products by row and vector of a register tile."""
        acc, dot = registers(self.rows * self.vectors, f"int32x{self.lanes}"), self.dot
        if isinstance(dot, ByLane):
            if memory.prefetch is not None:
                memory.prefetch.fetch(number)
            _fill(acc, [splat(T.int32(0), self.lanes)] * len(acc))
            rows = [acc[n : n + self.vectors] for n in range(0, len(acc), self.vectors)]
            parts = (partial(part, memory, at) for part in (self._codes, self._weights))
            add_by_lanes(dot, rows, self.depth, *parts)
        elif memory.following is not None:
            _fill(acc, [splat(T.int32(0), self.lanes)] * len(acc))
            self._add_interleaved(acc, memory, at, (memory.following, number))
        else:
            for k, first in steps(self.depth):
                if memory.prefetch is not None:
                    memory.prefetch.fetch(number, k, self.depth)
                weights = self._weights(memory, at, k)
                for slot, code, weight in self._step(acc, memory, at[0] + k, weights):
                    total = dot.product if first else partial(dot.accumulate, slot[0])
                    assign(slot, total([code], [weight]))
        return acc

    def _add_interleaved(
        self,
        acc: list[Buffer],
        memory: ProductMemory,
        at: tuple[Expr, Expr],
        following: tuple[NextWeights, Expr],
    ) -> None:
        """Add runs of products; after each, transform a vector of the kernels that are next."""
        weights, number = following
        length = self.depth // weights.runs
        with T.serial(0, weights.of_tile) as chunk:
            for field in range(weights.weights.fields):
                first = (chunk * weights.weights.fields + field) * length
                self._add_steps(acc, memory, at, (first, length))
                weights.transform(number * weights.of_tile + chunk, field)
        first = weights.runs * length
        self._add_steps(acc, memory, at, (first, self.depth - first))

    def _add_steps(
        self,
        acc: list[Buffer],
        memory: ProductMemory,
        at: tuple[Expr, Expr],
        some: tuple[Expr, int],
    ) -> None:
        """Add ``some`` steps, a first one and their number, to sums."""
        assert not isinstance(self.dot, ByLane)
        first, count = some
        with T.serial(0, count) as n:
            k = first + n
            weights = self._weights(memory, at, k)
            for slot, code, weight in self._step(acc, memory, at[0] + k, weights):
                assign(slot, self.dot.accumulate(slot[0], [code], [weight]))

    def _add_overflow(
        self, acc: list[Buffer], memory: ProductMemory, position: Expr, codes: Expr
    ) -> None:
        """Add the overflow steps of a position to its sums."""
        overflow, dot, table = self.overflow, self.dot, memory.table
        if overflow is None:
            return
        assert isinstance(dot, Vpdpbusd)
        number = memory.group * overflow.positions + position
        with T.serial(table[number], table[number + 1]) as n:
            first = overflow.weights_at + n * (self.vectors * VECTOR)
            places = (first + i * VECTOR for i in range(self.vectors))
            kind = vector(dot.dtype, dot.elements)
            weights = [T.reinterpret(kind, load(table, place, VECTOR)) for place in places]
            step = table[overflow.steps_at + n]
            for slot, code, weight in self._step(acc, memory, codes + step, weights):
                assign(slot, dot.accumulate(slot[0], [code], [weight]))

    def _codes(self, memory: ProductMemory, at: tuple[Expr, Expr], k: Expr) -> list[Expr]:
        """Return four steps of codes of every row."""
        places = (at[0] + p * (self.pixel) + k for p in range(self.rows))
        return [load(memory.v, place, LANES) for place in places]

    def _weights(self, memory: ProductMemory, at: tuple[Expr, Expr], k: Expr) -> list[Expr]:
        """Return the weights of one step."""
        elements = self.dot.elements
        first = at[1] + k * (self.vectors * elements)
        return [load(memory.u, first + n * elements, elements) for n in range(self.vectors)]

    def _step(
        self, acc: list[Buffer], memory: ProductMemory, place: Expr, weights: list[Expr]
    ) -> Iterator[tuple[Buffer, Expr, Expr]]:
        """Yield every accumulator with the codes of its row at ``place``, and its weights."""
        assert not isinstance(self.dot, ByLane)
        kind = f"{self.dot.dtype}x{self.dot.elements}"
        held = registers(self.vectors, kind)
        _fill(held, weights)
        codes = registers(1, kind)[0]
        for p in range(self.rows):
            word = memory.v[place + p * self.pixel]
            assign(codes, self.dot.operands(word)[0])
            for n, weight in enumerate(held):
                yield acc[p * self.vectors + n], codes[0], weight[0]


def _fill(slots: list[Buffer], values: list[Expr]) -> None:
    for slot, value in zip(slots, values, strict=True):
        assign(slot, value)


def _step_cycles(dot: WinogradDot, rows: int, vectors: int, pipeline: PipelineModel) -> float:
    products = rows * vectors * dot.product_cycles
    if isinstance(dot, Smlal):  # of any processor, two cycles
        return pipeline.step(products, rows / LANES + vectors)
    return pipeline.step(products * pipeline.slower, rows + vectors)


def dot_for(target: CpuTarget, proof: Proof) -> WinogradDot:
    """Return the target's fastest exact instruction for the operands of ``proof``."""
    vnni, lanes = "avx512vnni" in target.features, vpmaddubsw_lanes(target)
    if proof.dtype == "int16":
        return Smlal() if lanes is None else Int16Dot(lanes, fused=vnni)
    if vnni:
        return Vpdpbusd()
    assert "dotprod" in target.features
    return Sdot()


def register_tiles(target: CpuTarget, dot: WinogradDot, sizes: ProductSizes) -> list[DotProduct]:
    """Return the register tiles for blocks of ``sizes.tiles``, the best predicted one first."""
    vectors, depth = -(-sizes.outputs // dot.lanes), -(-sizes.channels // dot.group)
    codes = 1 if isinstance(dot, ByLane) else 0  # registers of a row
    found = [
        DotProduct(rows, wide, sizes.tiles, vectors, sizes.stored, dot, depth)
        for rows, wide in product(
            range(1, min(sizes.tiles, MOST_ROWS) + 1), range(1, min(vectors, MOST_VECTORS) + 1)
        )
        if rows * (wide + codes) + wide + dot.temporaries <= target.vector_registers
    ]
    return sorted(found, key=lambda p: p.cycles(pipeline_of(target)))
