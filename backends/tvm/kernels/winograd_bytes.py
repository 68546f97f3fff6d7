"""The products of Winograd convolution in bytes by vpmaddubsw, in the runs of ``winograd_runs``.

Per position, [tiles, channels] x [channels, outputs]. A short run is added pixel by pixel,

    acc32 = acc32 + vpmaddwd(vpmaddubsw(x0, w0) + vpmaddubsw(x1, w1) + ..., 1)

with its weights in registers; a long one has an accumulator of int16 for each of int32. Extra steps
are runs of one; a table tells which codes they take. Positions of one length and number of extra
steps follow each other: the code of each kind is there once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate, groupby, product
from operator import add
from typing import ClassVar

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.dot import Narrow, multiplied_lanes
from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.winograd_proof import Proof
from gmpq.backends.tvm.kernels.winograd_runs import (
    LONGEST_SHORT,
    Packed,
    Runs,
    choose,
    cycles_of,
    first_steps,
)
from gmpq.backends.tvm.kernels.winograd_tiles import (
    Memory,
    RegisterTiles,
    Sizes,
    chosen,
    padded,
    steps,
)
from gmpq.backends.tvm.pace import Pace
from gmpq.backends.tvm.script import (
    LINE,
    Buffer,
    Expr,
    held,
    inwards,
    load,
    put,
    registers,
    store,
)
from gmpq.backends.tvm.target import Target

MOST_ROWS, VECTORS = 14, (1, 2, 4)
AROUND = 20  # cycles to begin and end a register tile


@dataclass(frozen=True, slots=True)
class ByteProduct(RegisterTiles):
    """Register tiles whose runs differ by position."""

    dot: Narrow
    depth: int
    runs: Runs

    group: ClassVar[int] = Narrow.group
    dtype: ClassVar[str] = "int8"
    instruction: ClassVar[str] = "vpmaddubsw+vpaddw"

    def __str__(self) -> str:
        return f"{self.runs}, {self.rows} x {self.vectors} vectors"

    @property
    def lanes(self) -> int:
        """Lanes of a vector of outputs."""
        return self.dot.lanes

    @property
    def weight_lanes(self) -> int:
        """Weights of one vector."""
        return self.dot.elements

    @property
    def step_elements(self) -> int:
        """Weights of one step."""
        return self.vectors * self.dot.elements

    @property
    def block_elements(self) -> int:
        """Weights of one position and group of outputs, without extra steps."""
        return self.depth * self.step_elements

    @property
    def group_elements(self) -> int:
        """Weights of one group of outputs."""
        positions = len(self.runs.lengths)
        return (positions * self.depth + sum(self.runs.extras)) * self.step_elements

    @property
    def input_pitch(self) -> int:
        """The int32 from one position to the next in V."""
        return self.tiles * self.stored // self.group + LINE // 4

    @property
    def output_pitch(self) -> int:
        """The int32 from one position to the next in M."""
        return self.tiles * self.vectors * self.lanes + LINE // 4

    def cycles(self, _pace: Pace) -> float:
        """Return predicted cycles of a position, on average."""
        kinds = [*zip(self.runs.lengths, self.runs.extras, strict=True)]
        total = sum(self._tile_cycles(length, extras) for length, extras in kinds)
        return self.blocks * total / len(kinds)

    def _tile_cycles(self, length: int, extras: int) -> float:
        whole, rest = divmod(self.depth, length)
        runs = whole * self._run_cycles(length) + (self._run_cycles(rest) if rest else 0)
        return runs + extras * self._run_cycles(1) + self.rows * self.vectors / 2 + AROUND

    def _run_cycles(self, length: int) -> float:
        slots = self.rows * self.vectors
        loads = (self.rows + self.vectors) / slots
        return slots * max(cycles_of(length, self.depth, loads), length * loads / 2)

    # --- constants -------------------------------------------------------------------------------

    def pack(self, weights: Array) -> Array:
        """Return [parts, groups, depth, vectors, lanes * 4] of weights [parts, O, I]."""
        whole = padded(weights, self.all_vectors * self.lanes, self.depth * self.group)
        lanes = (self.all_vectors, self.lanes, self.depth, self.group)
        groups = whole.reshape(len(weights), *lanes)[:, chosen(self.all_vectors, self.vectors)]
        return np.ascontiguousarray(self.dot.pack(groups.transpose(0, 1, 4, 2, 3, 5)))

    @property
    def order(self) -> list[int]:
        """Positions, those of one length in a row."""
        lengths = self.runs.lengths
        return sorted(range(len(lengths)), key=lambda position: (lengths[position], position))

    def packed(self, proof: Proof) -> tuple[ByteProduct, Array, Array]:
        """Return the product with the extra steps that there are, its table and its weights."""
        form = (self.lanes, self.vectors)
        parts = [
            Packed.of(weights, int(span), form, length)
            for weights, span, length in zip(
                proof.weights, proof.spans, self.runs.lengths, strict=True
            )
        ]
        runs = replace(self.runs, extras=tuple(part.steps.shape[1] for part in parts)).evened
        exact = replace(self, runs=runs)
        ordered = [parts[position].filled(runs.extras[position]) for position in exact.order]
        sizes = [part.kept.shape[1] + part.extra.shape[1] for part in ordered]
        places = [0, *accumulate(size * self.step_elements for size in sizes)]
        both = [array for part in ordered for array in (part.kept, part.extra)]
        table = exact.table(places[:-1], np.concatenate([part.steps for part in ordered], axis=1))
        return exact, table, np.concatenate(both, axis=1)

    def late_table(self, pitch: int) -> Array:
        """Return the table for weights that lie ``pitch`` apart from position to position."""
        return self.table([position * pitch for position in self.order], np.zeros(0))

    def table(self, places: list[int], extra: Array) -> Array:
        """Return positions, the places of their weights, and the extra steps by group."""
        return np.concatenate([self.order, places, extra.reshape(-1)]).astype(np.int32)

    @property
    def table_size(self) -> int:
        """Elements of the table."""
        groups = -(-self.all_vectors // self.vectors)
        return 2 * len(self.runs.lengths) + groups * sum(self.runs.extras)

    # --- the code --------------------------------------------------------------------------------

    def multiply_all(self, memory: Memory, group: Expr, weights: Expr) -> None:
        """Write M of all positions for a group of outputs, whose weights begin at ``weights``."""
        positions, first = len(self.runs.lengths), 0
        extra = 2 * positions + group * sum(self.runs.extras)
        for length, members in groupby(self.order, self.runs.lengths.__getitem__):
            extras, count = self.runs.extras[self.order[first]], len([*members])
            with T.serial(first, first + count) as number:
                position = memory.table[number]
                place = weights + memory.table[positions + number]
                (position, place) = held([position, place])
                steps_at = extra + (number - first) * extras
                self._multiply(memory, (position, place, steps_at, number), length, extras)
            first, extra = first + count, extra + count * extras

    def _multiply(
        self, memory: Memory, at: tuple[Expr, Expr, Expr, Expr], length: int, extras: int
    ) -> None:
        """Write M of one position."""
        position, weights, table, number = at
        with T.serial(0, self.row_blocks) as block:
            if memory.ahead is not None:
                memory.ahead.fetch(number * self.row_blocks + block)
            first = inwards(block, self.rows, self.tiles)
            codes = position * self.input_pitch + first * (self.stored // self.group)
            acc = registers(self.rows * self.vectors, f"int32x{self.lanes}")
            self._add_runs(acc, memory, (codes, weights), length)
            with T.serial(0, extras) as n:
                there = codes + memory.table[table + n]
                here = weights + self.block_elements + n * self.step_elements
                self._add_short(acc, memory, (there, here), 1)
            place = position * self.output_pitch + first * (self.vectors * self.lanes)
            for i, slot in enumerate(acc):
                store(memory.m, place + i * self.lanes, slot[0], self.lanes)

    def _add_runs(
        self, acc: list[Buffer], memory: Memory, at: tuple[Expr, Expr], length: int
    ) -> None:
        """Write the sums of all steps but the extra ones."""
        (codes, weights), firsts = at, first_steps(self.depth, length)
        begun = self.depth - (len(firsts) - 1) * length
        self._add_run(acc, memory, at, begun, first=True)
        with T.serial(0, len(firsts) - 1) as j:
            step = j * length + begun
            self._add_run(acc, memory, (codes + step, weights + step * self.step_elements), length)

    def _add_run(
        self,
        acc: list[Buffer],
        memory: Memory,
        at: tuple[Expr, Expr],
        length: int,
        *,
        first: bool = False,
    ) -> None:
        adding = self._add_short if length <= LONGEST_SHORT else self._add_long
        adding(acc, memory, at, length, first=first)

    def _add_short(
        self,
        acc: list[Buffer],
        memory: Memory,
        at: tuple[Expr, Expr],
        length: int,
        *,
        first: bool = False,
    ) -> None:
        """Add a run pixel by pixel."""
        codes, weights = at
        vectors = [self._weights(memory, weights, k) for k in range(length)]
        for row in range(self.rows):
            pixel = codes + row * (self.stored // self.group)
            operands = held([self.dot.operands(memory.v[pixel + k])[0] for k in range(length)])
            for n in range(self.vectors):
                pairs = zip(operands, vectors, strict=True)
                wide = self.dot.widen(reduce(add, [self.dot.pairs([x], [w[n]]) for x, w in pairs]))
                slot = acc[row * self.vectors + n]
                put(slot, wide if first else slot[0] + wide)

    def _add_long(
        self,
        acc: list[Buffer],
        memory: Memory,
        at: tuple[Expr, Expr],
        length: int,
        *,
        first: bool = False,
    ) -> None:
        """Add a run in int16, then widen."""
        codes, weights = at
        short = registers(len(acc), f"int16x{2 * self.lanes}")
        for k, begins in steps(length):
            vectors = self._weights(memory, weights, k)
            for row in range(self.rows):
                word = memory.v[codes + row * (self.stored // self.group) + k]
                (operand,) = held(self.dot.operands(word))
                for n, weight in enumerate(vectors):
                    slot = short[row * self.vectors + n]
                    pairs = self.dot.pairs([operand], [weight])
                    put(slot, pairs if begins else slot[0] + pairs)
        for slot, sums in zip(acc, short, strict=True):
            wide = self.dot.widen(sums[0])
            put(slot, wide if first else slot[0] + wide)

    def _weights(self, memory: Memory, place: Expr, step: Expr) -> list[Expr]:
        """Return the weights of a step."""
        elements, here = self.dot.elements, place + step * self.step_elements
        return held([load(memory.u, here + n * elements, elements) for n in range(self.vectors)])


@dataclass(frozen=True, slots=True)
class ByteRuns:
    """The runs of a layer, by the vectors of a group of outputs."""

    dot: Narrow
    by_vectors: tuple[tuple[int, Runs], ...]


def adds_in_runs(target: Target) -> bool:
    """Tell whether bytes are added in int16: the processor has vpmaddubsw, and nothing better."""
    return multiplied_lanes(target) is not None and not target.features & {"avx512vnni", "amx-int8"}


def byte_runs(target: Target, proof: Proof, *, extras: bool) -> ByteRuns | None:
    """Return the runs for the operands of ``proof``, or None where all need ``extras``."""
    lanes = multiplied_lanes(target)
    assert lanes is not None
    found = [
        (vectors, choose(proof.weights, proof.spans, (lanes, vectors), extras=extras))
        for vectors in VECTORS
        if vectors <= -(-proof.weights.shape[1] // lanes)
    ]
    fitting = tuple((vectors, runs) for vectors, runs in found if runs is not None)
    return ByteRuns(Narrow(lanes), fitting) if fitting else None


def byte_tiles(target: Target, runs: ByteRuns, sizes: Sizes) -> Iterator[ByteProduct]:
    """Yield the register tiles for blocks of ``sizes.tiles``."""
    dot = runs.dot
    vectors, depth = -(-sizes.outputs // dot.lanes), -(-sizes.channels // dot.group)
    for rows, (wide, own) in product(range(1, min(sizes.tiles, MOST_ROWS) + 1), runs.by_vectors):
        steps_held = max(n for n in (1, *own.lengths) if n <= LONGEST_SHORT)
        if rows * wide + steps_held * wide + dot.temporaries <= target.registers:
            yield ByteProduct(rows, wide, sizes.tiles, vectors, sizes.stored, dot, depth, own)
