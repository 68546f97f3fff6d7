"""The sums of one tile of a direct convolution: loops, places of operands, and prefetches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, DirectTile
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import LANES, add_by_lanes
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    LINE,
    Buffer,
    Expr,
    assign,
    in_registers,
    load,
    prefetch,
    registers,
)
from gmpq.backends.tvm.kernels.cpu.isa.prefetch import WeightPrefetch

Step: TypeAlias = tuple[Expr, Expr, Expr]  # kernel row, kernel column, group of four channels
Registers: TypeAlias = list[list[Buffer]]  # by pixel and vector
Product: TypeAlias = tuple[Buffer, list[Expr], list[Expr]]  # accumulator, operands, weights
ARM_LANES = 4  # of int32: any stack aligns them, and fetching ahead was not measured there
SMALL_BLOCK_BYTES = 12 << 10  # fit an L1d cache in addition to weights in use and codes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tile lies in the output."""

    image: Expr
    row: Expr
    column: Expr
    block: Expr
    vector: Expr  # first vector of the block
    number: Expr = 0  # of the tile among those of the block


@dataclass(frozen=True, slots=True)
class TileSums:
    """What the accumulators of a tile are computed from."""

    shape: DirectShape
    dot: Any  # a Dot
    tile: DirectTile
    place: Place
    x: Buffer  # int32 of ``shape.group`` codes
    w: Buffer
    start: Buffer
    more: tuple[Buffer, ...] = ()  # tables of a family's own
    prefetch: WeightPrefetch | None = None  # of the next block

    def prefetch_next(self, step: Step) -> None:
        """Ask for the part of the next block that one step of this tile has to ask for."""
        if self.prefetch is not None:
            rows, columns = self.shape.window.kernel
            (r, s, k), steps = step, rows * columns * self.shape.depth
            number = (r * columns + s) * self.shape.depth + k
            self.prefetch.fetch(self.place.number, number, steps)

    def registers(self, lane: str) -> Registers:
        """Return accumulators by pixel and vector; ``lane`` is their type, such as int32x8."""
        return [registers(self.tile.vectors, lane) for _ in range(self.tile.pixels)]

    def begin(self, acc: Registers) -> None:
        """Put the start values into int32 accumulators."""
        lanes, first = self.shape.lanes, self.place.block * self.tile.vectors
        for pixel in acc:
            for n, slot in enumerate(pixel):
                assign(slot, load(self.start, (first + n) * lanes, lanes))

    def products(self, acc: Registers, step: Step) -> Iterator[Product]:
        """Yield every accumulator with its operands and weights of one step."""
        r, s, k = step
        place = T.floordiv(self.tap(r, s), self.shape.group) + k
        return self.products_at(acc, place, self.w, self.number(step))

    def products_at(
        self, acc: Registers, place: Expr, w: Buffer, number: Expr
    ) -> Iterator[Product]:
        """Yield the same for codes ``place`` after the first tap, and step ``number`` of ``w``."""
        group, weights = self.shape.group, self.weights(w, number)
        first = T.floordiv(self.corner(), group)
        for offset, pixel in zip(self.offsets(), acc, strict=True):
            operands = in_registers(self.dot.operands(self.x[first + offset // group + place]))
            for slot, weight in zip(pixel, weights, strict=True):
                yield slot, operands, weight

    def number(self, step: Step) -> Expr:
        """Return the number of a step among those of all blocks."""
        rows, columns = self.shape.window.kernel
        r, s, k = step
        return ((self.place.block * rows + r) * columns + s) * self.shape.depth + k

    def weights(self, w: Buffer, number: Expr) -> list[list[Expr]]:
        """Return the weight vectors of a step, loaded once for all pixels."""
        dot, vectors = self.dot, self.tile.vectors
        first = number * vectors * dot.vectors
        once = in_registers(
            [
                load(w, (first + i) * dot.elements, dot.elements)
                for i in range(vectors * dot.vectors)
            ]
        )
        return [once[i * dot.vectors : (i + 1) * dot.vectors] for i in range(vectors)]

    def tap(self, row: Expr, column: Expr) -> Expr:
        """Return the codes from the first tap of a pixel to another one."""
        (dy, dx), layout = self.shape.window.dilation, self.shape.x
        return row * (dy * layout.row) + column * (dx * layout.stored)

    def offsets(self) -> list[int]:
        """Return the codes from the first pixel of the tile to every pixel."""
        (sy, sx), layout = self.shape.window.stride, self.shape.x
        return [
            row * sy * layout.row + column * sx * layout.stored
            for row, column in product(range(self.tile.rows), range(self.tile.columns))
        ]

    def corner(self) -> Expr:
        """Return where the first tap of the first pixel lies."""
        shape, place, layout = self.shape, self.place, self.shape.x
        padding, (sy, sx) = shape.window.padding, shape.window.stride
        inside = place.row * (sy * layout.row) + place.column * (sx * layout.stored)
        first = layout.origin - padding.top * layout.row - padding.left * layout.stored
        channel = shape.first_channel(place.vector * shape.lanes)
        return first + place.image * layout.image + inside + channel


def accumulate_tile(sums: TileSums) -> Registers:
    """Return the accumulators by pixel and vector."""
    acc = sums.registers(f"int32x{sums.shape.lanes}")
    sums.begin(acc)
    with T.grid(*sums.shape.window.kernel, sums.shape.depth) as (r, s, k):
        sums.prefetch_next((r, s, k))
        for slot, operands, weights in sums.products(acc, (r, s, k)):
            assign(slot, sums.dot.accumulate(slot[0], operands, weights))
    return acc


def accumulate_lanes(sums: TileSums) -> Registers:
    """Return the same by ARM's dot products, four steps for one load of codes.

    Steps follow each other in memory along the channels of a tap, and along a row of taps that lie
    side by side.
    """
    shape, acc = sums.shape, sums.registers(f"int32x{sums.shape.lanes}")
    sums.begin(acc)
    rows, columns = shape.window.kernel
    columns, length = (
        (1, columns * shape.depth) if shape.contiguous_taps else (columns, shape.depth)
    )
    with T.grid(rows, columns) as (r, s):
        place = T.floordiv(sums.corner(), shape.group) + T.floordiv(sums.tap(r, s), shape.group)

        def codes(k: Expr) -> list[Expr]:
            places = (place + offset // shape.group for offset in sums.offsets())
            return [load(sums.x, each + k, LANES) for each in places]

        def weights(k: Expr) -> list[Expr]:
            return [weight for (weight,) in sums.weights(sums.w, sums.number((r, s, k)))]

        add_by_lanes(sums.dot, acc, length, codes, weights)
    return acc


def prefetch_small_block(
    tile: DirectTile, w: Buffer, size: int, row_tiles: int, item: Expr
) -> None:
    """Ask for a part of the next block's weights: along the rows of this block for all of them.

    What the processor fetches by itself comes late where all weights of a block are read once from
    memory, for its first row of tiles. With blocks inside, that was slower: it came all at once.
    """
    if not tile.blocks_outside:
        return
    line = LINE // np.dtype(str(w.dtype)).itemsize
    lines = -(-size // line)
    if row_tiles > 1 and lines * LINE <= SMALL_BLOCK_BYTES:
        part = -(-lines // row_tiles)
        first = (item // row_tiles + 1) * size + item % row_tiles * part * line
        for number in range(part):
            prefetch(w, first + number * line)


def next_block(
    shape: DirectShape, tile: DirectTile, w: Buffer, counts: tuple[int, int], block: Expr
) -> WeightPrefetch | None:
    """Return the weights of a large next block, for which ``accumulate_tile`` asks.

    ``counts`` are the weights of a block, and its tiles, which ask for all weights of the next.
    """
    (size, tiles), item = counts, np.dtype(str(w.dtype)).itemsize
    if not tile.blocks_outside or shape.lanes <= ARM_LANES or size * item <= SMALL_BLOCK_BYTES:
        return None
    line = LINE // item
    return WeightPrefetch(w, (block + 1) * size, -(-size // (line * tiles)), line)
