"""The loops of ``bitserial``: packing codes into planes, counting, finishing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.epilogue import Finish
from gmpq.backends.tvm.groups import PixelSums
from gmpq.backends.tvm.kernels.bitserial_planes import WORD
from gmpq.backends.tvm.layout import VECTOR, Layout
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    cast,
    inwards,
    load,
    pure,
    put,
    registers,
    scratch,
    splat,
    store,
    view,
)
from gmpq.ir import Window


@dataclass(frozen=True, slots=True)
class Tile:
    """What one task computes, and what stays in registers."""

    rows: int  # of output, of one task
    columns: int  # of output, in registers
    vectors: int

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.columns} pixels x {self.vectors} vectors"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that the loops run over."""

    window: Window
    x: Layout
    y: Layout
    planes: int  # of codes
    factors: tuple[int, ...]  # of the planes of weights
    offset: int

    @property
    def words(self) -> int:
        """Words of one pixel and plane."""
        return -(-self.x.channels // WORD)

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return -(-self.y.channels // VECTOR)

    @property
    def columns(self) -> int:
        """Input columns that a row of outputs reads."""
        return (self.y.width - 1) * self.window.stride[1] + self.window.reach[1]

    @property
    def magnitudes(self) -> list[int]:
        """The different factors of pairs of planes, without sign."""
        return sorted({abs(c) << i for c in self.factors for i in range(self.planes)})

    @property
    def pairs(self) -> int:
        """Pairs of planes."""
        return self.planes * len(self.factors)

    def rows_read(self, rows: int) -> int:
        """Return the input rows that ``rows`` of output read."""
        return (rows - 1) * self.window.stride[0] + self.window.reach[0]

    def pixels(self, tile: Tile) -> int:
        """Return the input pixels that a task packs."""
        return self.rows_read(tile.rows) * self.columns


@dataclass(frozen=True, slots=True)
class _Packed:
    """What a task makes of the codes that it reads."""

    planes: Buffer  # int32 [rows, columns, words, planes]
    sums: Buffer  # int32 [rows, columns], of codes


@dataclass(frozen=True, slots=True)
class Kernel:
    """The function of one tile."""

    shape: Shape
    tile: Tile
    finish: Finish

    def function(self) -> PrimFunc:
        """Return ``f(x, [residual], weights, start, factor, outputs)``."""
        shape, tile, y = self.shape, self.tile, self.shape.y
        blocks, row_tiles = -(-shape.vectors // tile.vectors), -(-y.height // tile.rows)
        kernel_rows, kernel_columns = shape.window.kernel
        steps = blocks * kernel_rows * kernel_columns * shape.words
        weights = steps * tile.vectors * len(shape.factors) * VECTOR

        def body(x_: Expr, *others: Expr) -> None:
            (w_, start_, factor_), ends = self.finish.split(others)
            x = view(x_, "int8", shape.x.size_bytes)
            w, start = view(w_, "int32", weights), view(start_, "int32", shape.vectors * VECTOR)
            end = ends.bind(factor_, shape.vectors * VECTOR)
            with T.parallel(0, shape.x.batch * row_tiles) as item:
                image, first = item // row_tiles, inwards(item % row_tiles, tile.rows, y.height)
                packed = self._pack(x, image, first)
                with T.grid(blocks, tile.rows, -(-y.width // tile.columns)) as (block, row, t):
                    column = inwards(t, tile.columns, y.width)
                    acc = self._count(packed, w, (block, row, column))
                    channel = inwards(block, tile.vectors, shape.vectors) * VECTOR
                    sums = []
                    for p, slots in enumerate(acc):
                        total = self._window_sum(packed, row, column + p)
                        pixel = (image, first + row, column + p)
                        sums.append(PixelSums(pixel, self._joined(slots, total, start, channel)))
                    end.put(sums, channel, VECTOR)

        constants = (("w", "int32"), ("start", "int32"), ("factor", "float32"))
        return c_function(self.finish.parameters(("x", "int8"), constants), body)

    def _pack(self, x: Buffer, image: Expr, first: Expr) -> _Packed:
        """Pack the rows that output row ``first`` and those below it read."""
        shape, layout, window = self.shape, self.shape.x, self.shape.window
        pixels, size = shape.pixels(self.tile), shape.words * shape.planes
        packed = _Packed(scratch(pixels * size, "int32"), scratch(pixels, "int32"))
        corner = layout.origin - window.padding.top * layout.row
        corner = corner - window.padding.left * layout.stored + image * layout.image
        corner = corner + first * (window.stride[0] * layout.row)
        (total,) = registers(1, "int64x4")
        with T.grid(shape.rows_read(self.tile.rows), shape.columns) as (row, column):
            pixel = row * shape.columns + column
            put(total, splat(T.int64(0), 4))
            with T.serial(0, shape.words) as word:
                place = corner + row * layout.row + column * layout.stored + word * WORD
                codes = load(x, place, WORD)
                for i in range(shape.planes):
                    raised = T.shift_left(
                        T.reinterpret("int16x16", codes), splat(T.int16(7 - i), 16)
                    )
                    signs = T.reinterpret("int8x32", raised)
                    bits = pure("llvm.x86.avx2.pmovmskb", "int32", signs)
                    store(packed.planes, pixel * size + word * shape.planes + i, bits, 1)
                if shape.offset:
                    put(total, total[0] + self._sums(codes, word))
            if shape.offset:
                lanes = [cast("int32", 1, T.Shuffle([total[0]], [i])) for i in range(4)]
                store(packed.sums, pixel, lanes[0] + lanes[1] + lanes[2] + lanes[3], 1)
        return packed

    def _sums(self, codes: Expr, word: Expr) -> Expr:
        """Return four sums of eight codes, without padding channels, which the last word has.

        LLVM 22 computes wrong sums of population counts of the planes.
        """
        rest = self.shape.x.channels % WORD
        if rest:
            kept = T.Shuffle(
                [T.int8(-1 if i < rest else 0) for i in range(WORD)], list(range(WORD))
            )
            everything = splat(T.int8(-1), WORD)
            last = word == self.shape.words - 1
            codes = T.bitwise_and(codes, T.Select(last, kept, everything))
        return pure("llvm.x86.avx2.psad.bw", "int64x4", codes, splat(T.int8(0), WORD))

    def _count(
        self, packed: _Packed, w: Buffer, at: tuple[Expr, Expr, Expr]
    ) -> list[list[list[Buffer]]]:
        """Return the sums of counts of one tile, by pixel, vector and magnitude."""
        (block, row, column), shape, tile = at, self.shape, self.tile
        (sy, sx), (dy, dx) = shape.window.stride, shape.window.dilation
        (kernel_rows, kernel_columns), planes = shape.window.kernel, shape.planes
        sizes = product(range(tile.columns), range(tile.vectors))
        flat = [registers(len(shape.magnitudes), "int32x16") for _ in sizes]
        acc = [flat[i : i + tile.vectors] for i in range(0, len(flat), tile.vectors)]
        for slot in (slot for slots in flat for slot in slots):
            put(slot, splat(T.int32(0), VECTOR))
        with T.grid(kernel_rows, kernel_columns, shape.words) as (r, s, word):
            step = ((block * kernel_rows + r) * kernel_columns + s) * shape.words + word
            weights = self._weights(w, step)
            pixel = (row * sy + r * dy) * shape.columns + column * sx + s * dx
            for p, slots in enumerate(acc):
                place = ((pixel + p * sx) * shape.words + word) * planes
                self._add(slots, [packed.planes[place + i] for i in range(planes)], weights)
        return acc

    def _weights(self, w: Buffer, step: Expr) -> list[list[Expr]]:
        """Return the weight planes of one step by vector, loaded once for all pixels."""
        count = len(self.shape.factors)
        slots = registers(self.tile.vectors * count, "int32x16")
        for i, slot in enumerate(slots):
            put(slot, load(w, (step * len(slots) + i) * VECTOR, VECTOR))
        values = [slot[0] for slot in slots]
        return [values[i : i + count] for i in range(0, len(values), count)]

    def _add(self, acc: list[list[Buffer]], codes: list[Expr], weights: list[list[Expr]]) -> None:
        """Add the counts of one pixel and word."""
        magnitudes = self.shape.magnitudes
        for i, code in enumerate(codes):
            (everywhere,) = registers(1, "int32x16")
            put(everywhere, splat(code, VECTOR))
            for slots, planes in zip(acc, weights, strict=True):
                for factor, weight in zip(self.shape.factors, planes, strict=True):
                    both = T.bitwise_and(everywhere[0], weight)
                    count = pure("llvm.ctpop", "int32x16", both)
                    slot = slots[magnitudes.index(abs(factor) << i)]
                    put(slot, slot[0] + count if factor > 0 else slot[0] - count)

    def _window_sum(self, packed: _Packed, row: Expr, column: Expr) -> Expr:
        """Return the sum of the codes under one window."""
        shape, (kernel_rows, kernel_columns) = self.shape, self.shape.window.kernel
        (sy, sx), (dy, dx) = shape.window.stride, shape.window.dilation
        if not shape.offset:
            return T.int32(0)
        (total,) = registers(1, "int32")
        put(total, T.int32(0))
        with T.grid(kernel_rows, kernel_columns) as (r, s):
            pixel = (row * sy + r * dy) * shape.columns + column * sx + s * dx
            put(total, total[0] + packed.sums[pixel])
        return total[0]

    def _joined(
        self, acc: list[list[Buffer]], total: Expr, start: Buffer, channel: Expr
    ) -> list[Expr]:
        """Return the accumulators of one pixel by vector; ``total`` is the sum of its codes."""
        found = []
        for v, slots in enumerate(acc):
            value = load(start, channel + v * VECTOR, VECTOR)
            value = value + splat(total * self.shape.offset, VECTOR)
            for magnitude, slot in zip(self.shape.magnitudes, slots, strict=True):
                shift = splat(T.int32(magnitude.bit_length() - 1), VECTOR)
                value = value + T.shift_left(slot[0], shift)
            found.append(value)
        return found
