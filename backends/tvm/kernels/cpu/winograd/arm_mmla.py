"""The products of Winograd convolution by the matrix products of Armv8.6.

smmla multiplies two rows of eight signed bytes with two others and adds the four sums to int32
lanes without saturation (Arm ARM, SMMLA): 32 products, twice those of sdot. Here the rows are two
tiles times two outputs, eight channels a step, and the lanes of an accumulator are

    tile 0 output 0,  tile 0 output 1,  tile 1 output 0,  tile 1 output 1.

The transform of the input stores V in pairs of tiles, as the instruction reads them. The output's
transform adds vectors lane by lane, whatever the lanes are: only its few results are put in order.

What must be proved is what sdot needs: operands that are signed bytes (``proof``). An odd
number of tiles is made even by the last one again. Channels are filled up to whole eights: V holds
whatever bytes there, and their weights are zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    call_intrinsic,
    clamped_start,
    in_registers,
    load,
    registers,
    splat,
    store,
    view,
)
from gmpq.backends.tvm.kernels.cpu.winograd.arm_neon import LANES, NeonTiles
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import (
    RUN,
    PositionWeights,
    ProductMemory,
    ProductSizes,
    chosen,
    padded,
)
from gmpq.backends.tvm.target.cpu import GROUP, CpuTarget
from gmpq.backends.tvm.target.pipeline import PipelineModel

PAIR = 2  # tiles, and outputs, of one instruction
MOST_ROWS, MOST_VECTORS = 12, 4
PRODUCT_CYCLES = 0.5


@dataclass(frozen=True, slots=True)
class MatrixProduct(NeonTiles):
    """Tiles that matrix products multiply, two at once: their number is even."""

    depth: int  # of eight channels

    together: ClassVar[int] = PAIR
    instruction: ClassVar[str] = "smmla"

    def __str__(self) -> str:
        return f"smmla {self.rows} x {self.vectors} vectors"

    @property
    def couples(self) -> int:
        """Pairs of outputs at once."""
        return self.channels // PAIR

    def cycles(self, pipeline: PipelineModel) -> float:
        """Return predicted cycles of one position."""
        pairs = self.rows // PAIR
        products = pairs * self.couples * PRODUCT_CYCLES
        step = pipeline.step(products * pipeline.slower, pairs + self.couples)
        return self.blocks * (self.depth * step + 2 * pairs * self.couples)

    @property
    def block_elements(self) -> int:
        """Weights of one position and group of outputs."""
        return self.depth * self.channels * RUN

    def pack(self, weights: Array) -> Array:
        """Return int8 [parts, groups, depth, couples, 2, 8] of weights [parts, O, I]."""
        whole = padded(weights, self.all_vectors * LANES, self.depth * RUN)
        vectors = whole.reshape(len(weights), self.all_vectors, LANES, self.depth, RUN)
        groups = vectors[:, chosen(self.all_vectors, self.vectors)]
        flat = groups.reshape(*groups.shape[:2], self.couples, PAIR, self.depth, RUN)
        return np.ascontiguousarray(flat.transpose(0, 1, 4, 2, 3, 5))

    def multiply(self, memory: ProductMemory, at: PositionWeights, *, more: bool) -> None:
        """Write M of one position; ``more`` adds to what it holds."""
        position, weights = at
        acc = registers(self.rows // PAIR * self.couples, f"int32x{LANES}")
        with T.serial(0, self.row_blocks) as block:
            first = clamped_start(block, self.rows, self.tiles)
            place = position * self.output_pitch + first * self.channels
            for i, slot in enumerate(acc):
                sums = load(memory.m, place + i * LANES, LANES)
                assign(slot, sums if more else splat(T.int32(0), LANES))
            with T.serial(0, self.depth) as k:
                codes = position * (GROUP * self.input_pitch) + first * self.stored
                self._add(acc, memory, (codes + k * (PAIR * RUN), weights), k)
            for i, slot in enumerate(acc):
                store(memory.m, place + i * LANES, slot[0], LANES)

    def _add(
        self, acc: list[Buffer], memory: ProductMemory, at: tuple[Expr, Expr], k: Expr
    ) -> None:
        """Add the products of eight channels."""
        codes, weights = at
        v = view(memory.v.data, "int8", GROUP * int(memory.v.shape[0]))
        pairs = range(self.rows // PAIR)
        tiles = in_registers([load(v, codes + p * (PAIR * self.stored), neon.CODES) for p in pairs])
        for couple in range(self.couples):
            place = weights + (k * self.couples + couple) * neon.CODES
            (two,) = in_registers([load(memory.u, place, neon.CODES)])
            for pair, codes_ in enumerate(tiles):
                slot = acc[pair * self.couples + couple]
                assign(
                    slot,
                    call_intrinsic(
                        "llvm.aarch64.neon.smmla", f"int32x{LANES}", slot[0], codes_, two
                    ),
                )


def matrix_tiles(target: CpuTarget, sizes: ProductSizes) -> Iterator[MatrixProduct]:
    """Yield the register tiles for blocks of ``sizes.tiles``."""
    tiles, vectors = sizes.tiles + sizes.tiles % PAIR, -(-sizes.outputs // LANES)
    stored, depth = -(-sizes.stored // RUN) * RUN, -(-sizes.channels // RUN)
    for rows, wide in product(
        range(PAIR, min(tiles, MOST_ROWS) + 1, PAIR), range(1, min(vectors, MOST_VECTORS) + 1)
    ):
        if rows * wide + rows // PAIR + 2 <= target.vector_registers:
            yield MatrixProduct(rows, wide, tiles, vectors, stored, depth)
