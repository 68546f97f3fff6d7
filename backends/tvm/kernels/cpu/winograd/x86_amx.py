"""The products of Winograd convolution on AMX tiles (Intel SDM, TDPBUSD)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa.amx import (
    DEPTH,
    INSTRUCTION,
    LATENCY,
    LOAD,
    PRODUCT,
    Blocking,
    configuration,
)
from gmpq.backends.tvm.kernels.cpu.isa.builder import LINE, Expr, call_intrinsic_void, clamped_start
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import (
    PositionWeights,
    ProductMemory,
    ProductSizes,
    chosen,
    padded,
)
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR
from gmpq.backends.tvm.target.pipeline import PipelineModel

SPILL = 10  # cycles to store 16 accumulators, and to load them again for the output's transform


@dataclass(frozen=True, slots=True)
class AmxProduct:
    """AMX tiles: ``blocking.pixels`` counts tiles of the image."""

    blocking: Blocking
    tiles: int
    all_vectors: int
    stored: int
    steps: int  # of 64 channels
    lanes: int = VECTOR  # of a vector of outputs
    group: int = GROUP  # codes in one int32 of V
    dtype: str = "int8"  # of a weight

    instruction: ClassVar[str] = INSTRUCTION
    together: ClassVar[int] = 1  # tiles that are multiplied together
    fewest_outputs: ClassVar[int] = 1024  # against which transforming the input again is cheap

    def __str__(self) -> str:
        return f"amx {self.blocking}"

    @property
    def vectors(self) -> int:
        """Vectors of outputs at once."""
        return self.blocking.vectors

    @property
    def width(self) -> int:
        """Tiles of the image that are multiplied at once."""
        return min(self.blocking.pixels * self.blocking.tiles, self.tiles)

    @property
    def overlaps(self) -> bool:
        """Whether some tiles are multiplied twice, which must not add to M then."""
        return self.tiles % self.width != 0

    def cycles(self, _pipeline: PipelineModel) -> float:
        """Return predicted cycles of one position."""
        b = self.blocking
        step = max(PRODUCT * b.accumulators, LATENCY, LOAD * (b.tiles + b.vectors))
        one = self.steps * step + SPILL * b.accumulators * b.pixels
        return -(-self.tiles // (b.tiles * b.pixels)) * -(-self.all_vectors // b.vectors) * one

    def setup(self) -> Array:
        """Return the tile configuration, int32 [16] (Intel SDM, LDTILECFG)."""
        return configuration(self.blocking).view(np.int32)

    def begin(self, setup: Expr) -> None:
        """Configure the tiles of this thread."""
        call_intrinsic_void("llvm.x86.ldtilecfg", setup)

    def end(self) -> None:
        """Release the tiles."""
        call_intrinsic_void("llvm.x86.tilerelease")

    @property
    def input_pitch(self) -> int:
        """The int32 from one position to the next in V."""
        return (self.tiles * self.stored + LINE) // GROUP

    @property
    def output_pitch(self) -> int:
        """The int32 from one position to the next in M."""
        return self.tiles * self.vectors * VECTOR + LINE // 4

    @property
    def weight_lanes(self) -> int:
        """Weights of one vector."""
        return DEPTH

    @property
    def block_elements(self) -> int:
        """Weights of one position and group of outputs."""
        return self.steps * self.vectors * VECTOR * DEPTH

    def pack(self, weights: Array) -> Array:
        """Return int8 [parts, groups, steps, vectors, 16, 16 * 4] of weights [parts, O, I]."""
        outputs = self.all_vectors * VECTOR
        lanes = (self.all_vectors, VECTOR, self.steps, DEPTH // GROUP, GROUP)
        split = padded(weights, outputs, self.steps * DEPTH).reshape(len(weights), *lanes)
        groups = split[:, chosen(self.all_vectors, self.vectors)]
        return np.ascontiguousarray(groups.transpose(0, 1, 4, 2, 5, 3, 6))

    def multiply(self, memory: ProductMemory, at: PositionWeights, *, more: bool) -> None:
        """Write M of one position; ``more`` adds to what it holds."""
        b = self.blocking
        with T.serial(0, -(-self.tiles // self.width)) as block:
            first = clamped_start(block, self.width, self.tiles)
            rows = [first + min(i * b.pixels, self.tiles - b.pixels) for i in range(b.tiles)]
            self._start(memory, rows, at, more=more)
            with T.serial(0, self.steps) as step:
                self._step(memory, rows, (*at, step))
            for i, (row, n) in enumerate(product(rows, range(b.vectors))):
                place = T.address_of(memory.m[self._place(at[0], row, n)])
                call_intrinsic_void(
                    "llvm.x86.tilestored64", T.int8(i), place, T.int64(b.vectors * DEPTH)
                )

    def _place(self, position: Expr, row: Expr, n: int) -> Expr:
        return position * self.output_pitch + (row * self.vectors + n) * VECTOR

    def _start(
        self, memory: ProductMemory, rows: list[Expr], at: PositionWeights, *, more: bool
    ) -> None:
        for i, (row, n) in enumerate(product(rows, range(self.vectors))):
            if more:
                place = T.address_of(memory.m[self._place(at[0], row, n)])
                call_intrinsic_void(
                    "llvm.x86.tileloadd64", T.int8(i), place, T.int64(self.vectors * DEPTH)
                )
            else:
                call_intrinsic_void("llvm.x86.tilezero", T.int8(i))

    def _step(self, memory: ProductMemory, rows: list[Expr], at: tuple[Expr, Expr, Expr]) -> None:
        position, weights, step = at
        b = self.blocking
        inputs = b.tiles * b.vectors
        for i, row in enumerate(rows):
            first = position * self.input_pitch + (row * self.stored + step * DEPTH) // GROUP
            call_intrinsic_void(
                "llvm.x86.tileloadd64",
                T.int8(inputs + i),
                T.address_of(memory.v[first]),
                T.int64(self.stored),
            )
        base = weights + step * (b.vectors * VECTOR * DEPTH)
        for n in range(b.vectors):
            place = T.address_of(memory.u[base + n * (VECTOR * DEPTH)])
            call_intrinsic_void(
                "llvm.x86.tileloadd64", T.int8(inputs + b.tiles + n), place, T.int64(DEPTH)
            )
        for i, (tile, n) in enumerate(product(range(b.tiles), range(b.vectors))):
            operands = (T.int8(inputs + tile), T.int8(inputs + b.tiles + n))
            call_intrinsic_void("llvm.x86.tdpbusd", T.int8(i), *operands)


def amx_tiles(sizes: ProductSizes) -> list[AmxProduct]:
    """Return the products on AMX tiles of ``sizes``, of one, two and four tiles at once."""
    steps, vectors = -(-sizes.channels // DEPTH), -(-sizes.outputs // VECTOR)
    return [
        AmxProduct(
            Blocking(True, rows, 1, many, wide, False), sizes.tiles, vectors, sizes.stored, steps
        )
        for rows, (many, wide) in product(
            range(1, min(sizes.tiles, 16) + 1), ((2, 2), (1, 2), (1, 1))
        )
        if wide <= vectors
    ]
