"""Tiles whose vectors are pixels: how an image is cut into them, and how codes are transposed.

The pixels of an output, row after row, are cut into vectors of eight; the last one is moved
inwards. Tiles have as equal numbers of them as can be, so that no small one is left over at the
end. Codes lie in memory pixel by pixel; a stage holds those of some tiles step by step, for each
the vectors of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    in_registers,
    load,
    scratch,
    store,
)
from gmpq.backends.tvm.target.cpu import GROUP

PIXELS = 8  # of a vector
QUAD = 4  # steps, or outputs, that are transposed at once


@dataclass(frozen=True, slots=True)
class Pixels:
    """The tiles of one image: the first ``larger`` have ``most`` vectors, the others one less."""

    count: int  # of pixels
    most: int  # vectors of a tile

    @property
    def vectors(self) -> int:
        """Vectors of all tiles."""
        return -(-self.count // PIXELS)

    @property
    def tiles(self) -> int:
        """Tiles of the image."""
        return -(-self.vectors // self.most)

    @property
    def larger(self) -> int:
        """Tiles of ``most`` vectors."""
        return self.vectors - (self.most - 1) * self.tiles

    def first_vector(self, tile: Expr) -> Expr:
        """Return the number of a tile's first vector."""
        return tile * (self.most - 1) + T.min(tile, T.int32(self.larger))

    def first_pixel(self, vector: Expr) -> Expr:
        """Return the first pixel of a vector."""
        return T.min(vector * PIXELS, T.int32(self.count - PIXELS))


def pixels_of(count: int, most: int) -> Pixels:
    """Return tiles of at most ``most`` vectors, as equal as can be."""
    vectors = -(-count // PIXELS)
    return Pixels(count, -(-vectors // -(-vectors // most)))


@dataclass(frozen=True, slots=True)
class PixelsStage:
    """The codes of ``tiles`` tiles of pixels, for all steps of a convolution."""

    shape: DirectShape
    pixels: Pixels
    tiles: int

    @property
    def depth(self) -> int:
        """Steps of a tap, with those of padding channels."""
        return self.shape.x.stored // GROUP

    @property
    def width(self) -> int:
        """Pixels of a step of a tile."""
        return self.pixels.most * PIXELS

    @property
    def tile_words(self) -> int:
        """Steps and pixels of a tile."""
        rows, columns = self.shape.window.kernel
        return rows * columns * self.depth * self.width

    @property
    def bytes(self) -> int:
        """Of the stage, with where its pixels lie."""
        return self.tiles * GROUP * (self.tile_words + 2 * self.width)


@dataclass(frozen=True, slots=True)
class Staged:
    """A stage in memory."""

    codes: Buffer  # int32 [tiles, steps, pixels]
    rows: Buffer  # of the output, int32 [tiles, pixels]
    columns: Buffer


def fill(stage: PixelsStage, x: Buffer, image: Expr, first: Expr, count: Expr) -> Staged:
    """Return the stage of ``count`` tiles from ``first`` on; ``x`` are codes as int32."""
    pixels = stage.pixels
    staged = Staged(
        scratch(stage.tiles * stage.tile_words, "int32"),
        scratch(stage.tiles * stage.width, "int32"),
        scratch(stage.tiles * stage.width, "int32"),
    )
    with T.serial(0, count) as tile:
        number = first + tile
        smaller = T.Cast("int32", number >= pixels.larger)
        with T.serial(0, pixels.most - smaller) as vector:
            start = pixels.first_pixel(pixels.first_vector(number) + vector)
            place = tile * stage.width + vector * PIXELS
            corners = [_place(stage, staged, start + i, place + i, image) for i in range(PIXELS)]
            _transpose(
                stage, x, in_registers(corners), staged, tile * stage.tile_words + vector * PIXELS
            )
    return staged


def _place(stage: PixelsStage, staged: Staged, pixel: Expr, place: Expr, image: Expr) -> Expr:
    """Keep where a pixel lies, and return where its first tap does."""
    shape, x = stage.shape, stage.shape.x
    (sy, sx), padding = shape.window.stride, shape.window.padding
    row, column = in_registers([pixel // shape.y.width, pixel % shape.y.width])
    T.buffer_store(staged.rows, row, [place])
    T.buffer_store(staged.columns, column, [place])
    corner = (x.origin - padding.top * x.row - padding.left * x.stored) // GROUP
    inside = row * (sy * x.row // GROUP) + column * (sx * x.stored // GROUP)
    return corner + image * (x.image // GROUP) + inside


def _transpose(
    stage: PixelsStage, x: Buffer, corners: list[Expr], staged: Staged, place: Expr
) -> None:
    """Put the codes of a vector of pixels into the stage, all taps and channels."""
    (dy, dx), (rows, columns) = stage.shape.window.dilation, stage.shape.window.kernel
    layout = stage.shape.x
    with T.grid(rows, columns, stage.depth // QUAD) as (r, s, quad):
        tap = r * (dy * layout.row // GROUP) + s * (dx * layout.stored // GROUP) + quad * QUAD
        vectors = transposed(x, [corner + tap for corner in corners])
        step = (r * columns + s) * stage.depth + quad * QUAD
        for k, codes in enumerate(vectors):
            store(staged.codes, place + (step + k) * stage.width, codes, PIXELS)


def transposed(memory: Buffer, starts: Sequence[Expr]) -> list[Expr]:
    """Return vector k of element k from every start on, of four; the words are int32.

    The starts of the first and of the last four share vectors, which are transposed in their
    halves.
    """
    whole = list(range(PIXELS))
    both = [
        T.Shuffle([load(memory, starts[i], QUAD), load(memory, starts[QUAD + i], QUAD)], whole)
        for i in range(QUAD)
    ]
    a, b, c, d = in_registers(both)
    low, high = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
    words = in_registers(
        [T.Shuffle(pair, list(order)) for order, pair in product((low, high), ([a, b], [c, d]))]
    )
    first, second = (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)
    pairs = (words[:2], words[2:])
    return in_registers(
        [T.Shuffle(pair, list(order)) for pair in pairs for order in (first, second)]
    )
