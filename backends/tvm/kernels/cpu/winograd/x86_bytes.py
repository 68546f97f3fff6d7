"""The products of Winograd convolution in bytes by vpmaddubsw, in the runs of ``x86_bytes_runs``.

Per position, [tiles, channels] x [channels, outputs]; ``x86_bytes_loops`` has the loops.
Positions of one length follow each other in memory, and the code of each length is there once. A
table holds the order, where the weights of each position begin, and which codes overflow steps
take.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, product
from typing import ClassVar

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpmaddubsw, vpmaddubsw_lanes
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import DotTiles, ProductSizes
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_overflow import SplitWeights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_runs import (
    LONGEST_SHORT,
    PositionRuns,
    choose,
    cycles_of,
)
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.backends.tvm.target.pipeline import PipelineModel

MOST_ROWS, VECTORS = 14, (1, 2, 4)
AROUND = 20  # cycles to begin and end a register tile


@dataclass(frozen=True, slots=True)
class ByteProduct(DotTiles):
    """Register tiles whose runs differ by position."""

    dot: Vpmaddubsw
    runs: PositionRuns

    instruction: ClassVar[str] = "vpmaddubsw+vpaddw"

    def __str__(self) -> str:
        return f"{self.runs}, {self.rows} x {self.vectors} vectors"

    @property
    def step_elements(self) -> int:
        """Weights of one step."""
        return self.vectors * self.dot.elements

    @property
    def group_elements(self) -> int:
        """Weights of one group of outputs."""
        positions = len(self.runs.lengths)
        return (positions * self.depth + sum(self.runs.overflow_steps)) * self.step_elements

    def cycles(self, _pipeline: PipelineModel) -> float:
        """Return predicted cycles of a position, on average."""
        kinds = [*zip(self.runs.lengths, self.runs.overflow_steps, strict=True)]
        total = sum(self._tile_cycles(length, overflow_steps) for length, overflow_steps in kinds)
        return self.blocks * total / len(kinds)

    def _tile_cycles(self, length: int, overflow_steps: int) -> float:
        whole, rest = divmod(self.depth, length)
        runs = whole * self._run_cycles(length) + (self._run_cycles(rest) if rest else 0)
        return runs + overflow_steps * self._run_cycles(1) + self.rows * self.vectors / 2 + AROUND

    def _run_cycles(self, length: int) -> float:
        slots = self.rows * self.vectors
        loads = (self.rows + self.vectors) / slots
        return slots * max(cycles_of(length, self.depth, loads), length * loads / 2)

    @property
    def order(self) -> list[int]:
        """Positions, those of one length in a row."""
        lengths = self.runs.lengths
        return sorted(range(len(lengths)), key=lambda position: (lengths[position], position))

    def packed(self, proof: Proof) -> tuple[ByteProduct, Array, Array]:
        """Return the product with its overflow steps, its table and its weights.

        The table is int32 [table_size], the weights int8 [groups, steps of all positions, vectors,
        lanes * 4].
        """
        form = (self.lanes, self.vectors)
        parts = [
            SplitWeights.of(weights, int(span), form, length)
            for weights, span, length in zip(
                proof.weights, proof.spans, self.runs.lengths, strict=True
            )
        ]
        runs = replace(
            self.runs, overflow_steps=tuple(part.steps.shape[1] for part in parts)
        ).evened
        exact = replace(self, runs=runs)
        ordered = [
            parts[position].filled(runs.overflow_steps[position]) for position in exact.order
        ]
        sizes = [part.kept.shape[1] + part.overflow.shape[1] for part in ordered]
        places = [0, *accumulate(size * self.step_elements for size in sizes)]
        both = [array for part in ordered for array in (part.kept, part.overflow)]
        table = exact.table(places[:-1], np.concatenate([part.steps for part in ordered], axis=1))
        return exact, table, np.concatenate(both, axis=1)

    def late_table(self, pitch: int) -> Array:
        """Return the table, int32 [table_size], of positions whose weights lie ``pitch`` apart."""
        return self.table([position * pitch for position in self.order], np.zeros(0))

    def table(self, places: list[int], overflow: Array) -> Array:
        """Return int32 [table_size]: positions, their weights' places, overflow steps by group."""
        return np.concatenate([self.order, places, overflow.reshape(-1)]).astype(np.int32)

    @property
    def table_size(self) -> int:
        """Elements of the table."""
        groups = -(-self.all_vectors // self.vectors)
        return 2 * len(self.runs.lengths) + groups * sum(self.runs.overflow_steps)


@dataclass(frozen=True, slots=True)
class LayerRuns:
    """The runs of a layer, by the vectors of a group of outputs."""

    dot: Vpmaddubsw
    by_vectors: tuple[tuple[int, PositionRuns], ...]


def adds_in_runs(target: CpuTarget) -> bool:
    """Return whether bytes are added in int16: the processor has vpmaddubsw, and nothing better."""
    return vpmaddubsw_lanes(target) is not None and not target.features & {"avx512vnni", "amx-int8"}


def layer_runs(target: CpuTarget, proof: Proof, *, overflow_steps: bool) -> LayerRuns | None:
    """Return the runs for the operands of ``proof``, or None where all need ``overflow_steps``."""
    lanes = vpmaddubsw_lanes(target)
    assert lanes is not None
    found = {
        (vectors, choose(proof, (lanes, vectors), overflow_steps=overflow_steps, long=long)): None
        for vectors in VECTORS
        for long in (False, True)
        if vectors <= -(-proof.weights.shape[1] // lanes)
    }
    usable = tuple((vectors, runs) for vectors, runs in found if runs is not None)
    return LayerRuns(Vpmaddubsw(lanes), usable) if usable else None


def byte_tiles(target: CpuTarget, runs: LayerRuns, sizes: ProductSizes) -> Iterator[ByteProduct]:
    """Yield the register tiles for blocks of ``sizes.tiles``."""
    dot = runs.dot
    vectors, depth = -(-sizes.outputs // dot.lanes), -(-sizes.channels // dot.group)
    for rows, (wide, own) in product(range(1, min(sizes.tiles, MOST_ROWS) + 1), runs.by_vectors):
        steps_held = max(n for n in (1, *own.lengths) if n <= LONGEST_SHORT)
        if rows * wide + steps_held * wide + dot.temporaries <= target.vector_registers:
            yield ByteProduct(rows, wide, sizes.tiles, vectors, sizes.stored, dot, depth, own)
