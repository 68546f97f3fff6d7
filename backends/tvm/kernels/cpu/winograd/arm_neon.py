"""The products of Winograd convolution on NEON without dot products, by the sums of ``neon_sums``.

Per position, [tiles, channels] x [channels, outputs]; transformed inputs are signed bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    LINE,
    Expr,
    clamped_start,
    in_registers,
    load,
    store,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import NeonRuns, runs_of
from gmpq.backends.tvm.kernels.cpu.isa.neon_sums import OperandPair, summed
from gmpq.backends.tvm.kernels.cpu.isa.neon_sums import StepIndex as Step
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof, part_spans, signed_lows
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import (
    PositionWeights,
    ProductMemory,
    ProductSizes,
    RegisterTiles,
    chosen,
    padded,
)
from gmpq.backends.tvm.target.cpu import GROUP, CpuTarget
from gmpq.backends.tvm.target.pipeline import PipelineModel

LANES = 4
MOST_ROWS, MOST_VECTORS = 6, 3
AROUND = 30  # cycles to begin and end a block's loop, where instructions overlap within it


@dataclass(frozen=True, slots=True)
class NeonTiles(RegisterTiles):
    """Tiles of signed bytes, of which a vector holds sixteen."""

    lanes: ClassVar[int] = LANES  # of a vector of outputs
    group: ClassVar[int] = GROUP  # codes in one int32 of V
    dtype: ClassVar[str] = "int8"  # of a weight
    weight_lanes: ClassVar[int] = neon.CODES  # weights of one vector

    @property
    def channels(self) -> int:
        """Outputs at once."""
        return self.vectors * LANES

    @property
    def input_pitch(self) -> int:
        """The int32 from one position to the next in V."""
        return (self.tiles * self.stored + LINE) // GROUP

    @property
    def output_pitch(self) -> int:
        """The int32 from one position to the next in M."""
        return self.tiles * self.channels + LINE // 4


@dataclass(frozen=True, slots=True)
class NeonProduct(NeonTiles):
    """Tiles that NEON's own multiplications multiply."""

    runs: NeonRuns

    def __str__(self) -> str:
        return f"neon {self.rows} x {self.vectors} vectors, {self.runs}"

    @property
    def instruction(self) -> str:
        """What multiplies."""
        return self.runs.instruction

    def cycles(self, pipeline: PipelineModel) -> float:
        """Return predicted cycles of one position."""
        sums = self.rows * self.channels
        step = self.runs.step_cycles(pipeline, self.rows, self.channels)
        around = 0 if pipeline.in_order else AROUND
        return self.blocks * (self.runs.steps.total * step + 2 * sums + around)

    @property
    def block_elements(self) -> int:
        """Weights of one position and group of outputs."""
        return self.runs.steps.total * self.channels * neon.CODES

    def pack(self, weights: Array) -> Array:
        """Return int8 [parts, groups, depth, channels, 16] of weights [parts, O, I]."""
        whole = padded(weights, self.all_vectors * LANES, weights.shape[2])
        vectors = whole.reshape(len(weights), self.all_vectors, LANES, -1)
        groups = vectors[:, chosen(self.all_vectors, self.vectors)]
        flat = groups.reshape(*groups.shape[:2], self.channels, 1, -1)
        return neon.in_steps(flat)[:, :, 0]

    def multiply(self, memory: ProductMemory, at: PositionWeights, *, more: bool) -> None:
        """Write M of one position; ``more`` adds to what it holds."""
        position, weights = at
        with T.serial(0, self.row_blocks) as block:
            first = clamped_start(block, self.rows, self.tiles)
            codes = position * (GROUP * self.input_pitch) + first * self.stored
            products = partial(self._products, memory, codes, weights)
            acc = summed(self.runs, self.rows * self.channels, self.rows, products)
            place = position * self.output_pitch + first * self.channels
            for row, n in product(range(self.rows), range(self.vectors)):
                here = place + (row * self.vectors + n) * LANES
                four = [acc[(n * LANES + lane) * self.rows + row][0] for lane in range(LANES)]
                total = neon.across(four)
                store(memory.m, here, load(memory.m, here, LANES) + total if more else total, LANES)

    def _products(
        self, memory: ProductMemory, codes: Expr, weights: Expr, step: Step
    ) -> list[OperandPair]:
        """Return sixteen codes and weights of a step for every accumulator: by output and row."""
        *_, k = step
        v = view(memory.v.data, "int8", GROUP * int(memory.v.shape[0]))
        places = [codes + row * self.stored + k * neon.CODES for row in range(self.rows)]
        xs = [load(v, place, neon.CODES) for place in places]
        first = weights + k * (self.channels * neon.CODES)
        ws = [load(memory.u, first + n * neon.CODES, neon.CODES) for n in range(self.channels)]
        return [(x, w) for w, x in product(in_registers(ws), in_registers(xs))]


def runs_for(target: CpuTarget, proof: Proof) -> tuple[NeonRuns, ...]:
    """Return the legal runs of sums over the channels, for the operands of ``proof``."""
    bits = neon.word_bits(target)
    assert bits is not None
    spans = part_spans(proof)
    low = signed_lows(spans)
    rows = neon.in_steps(proof.weights[:, None, :, None, :])
    return runs_of(rows, (low, low + spans), bits)


def neon_tiles(target: CpuTarget, runs: NeonRuns, sizes: ProductSizes) -> Iterator[NeonProduct]:
    """Yield the register tiles for blocks of ``sizes.tiles``."""
    vectors = -(-sizes.outputs // LANES)
    for rows, wide in product(
        range(1, min(sizes.tiles, MOST_ROWS) + 1), range(1, min(vectors, MOST_VECTORS) + 1)
    ):
        if rows * (LANES * wide + 1) + 4 <= target.vector_registers:
            yield NeonProduct(rows, wide, sizes.tiles, vectors, sizes.stored, runs)
