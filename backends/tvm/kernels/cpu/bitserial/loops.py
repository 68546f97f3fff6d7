"""The loops of ``bitserial``: packing codes into planes, counting, and the epilogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.bitserial.planes import WORD, PlaneForm
from gmpq.backends.tvm.kernels.cpu.bitserial.popcount import Counter
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import Epilogue
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    clamped_start,
    in_registers,
    load,
    scratch,
    splat,
    store,
    view,
    zeros,
)
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import Steps
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import Window


@dataclass(frozen=True, slots=True)
class BitserialTile:
    """What one task computes, and what stays in registers."""

    rows: int  # of output, of one task
    columns: int  # of output, in registers
    vectors: int

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.columns} pixels x {self.vectors} vectors"


@dataclass(frozen=True, slots=True)
class BitserialShape:
    """Sizes that the loops run over."""

    window: Window
    x: Layout
    y: Layout
    planes: int  # of codes
    form: PlaneForm  # of weights
    counter: Counter

    @property
    def words(self) -> int:
        """Words of one pixel and plane."""
        return -(-self.x.channels // WORD)

    @property
    def lanes(self) -> int:
        """Output channels of one vector."""
        return self.counter.lanes

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return -(-self.y.channels // self.lanes)

    @property
    def columns(self) -> int:
        """Input columns that a row of outputs reads."""
        return (self.y.width - 1) * self.window.stride[1] + self.window.reach[1]

    @property
    def magnitudes(self) -> list[int]:
        """The different factors of pairs of planes, ascending."""
        return sorted({c << i for c in self.form.factors for i in range(self.planes)})

    @property
    def pairs(self) -> int:
        """Pairs of planes."""
        return self.planes * len(self.form.factors)

    @property
    def steps(self) -> Steps:
        """Steps of one word."""
        return Steps(*self.window.kernel, self.words)

    @property
    def run(self) -> Steps:
        """Steps after which counts become wider sums."""
        alike = min(self.planes, len(self.form.factors))  # pairs of one magnitude, at most
        longest = self.counter.most_additions // alike
        return next(run for run in self.steps.runs() if run.total <= longest)

    def rows_read(self, rows: int) -> int:
        """Return the input rows that ``rows`` of output read."""
        return (rows - 1) * self.window.stride[0] + self.window.reach[0]

    def pixels(self, tile: BitserialTile) -> int:
        """Return the input pixels that a task packs."""
        return self.rows_read(tile.rows) * self.columns

    def row_tiles(self, tile: BitserialTile) -> int:
        """Return the tasks of one image."""
        return -(-self.y.height // tile.rows)


@dataclass(frozen=True, slots=True)
class BitserialKernel:
    """The function of one tile."""

    shape: BitserialShape
    tile: BitserialTile
    epilogue: Epilogue

    def function(self) -> PrimFunc:
        """Return ``f(x, [residual], weights, start, factor, outputs)``."""
        shape, tile, y, lanes = self.shape, self.tile, self.shape.y, self.shape.lanes
        blocks, row_tiles = -(-shape.vectors // tile.vectors), shape.row_tiles(tile)
        weights = blocks * shape.steps.total * tile.vectors * shape.form.stored * lanes

        def body(x_: Expr, *others: Expr) -> None:
            (w_, start_, factor_), arguments = self.epilogue.split(others)
            x = view(x_, "int8", shape.x.size_bytes)
            w, start = view(w_, "int32", weights), view(start_, "int32", shape.vectors * lanes)
            bound = arguments.bind(factor_, shape.vectors * lanes)
            with T.parallel(0, shape.x.batch * row_tiles) as item:
                image, first = (
                    item // row_tiles,
                    clamped_start(item % row_tiles, tile.rows, y.height),
                )
                planes = self._pack(x, image, first)
                with T.grid(blocks, tile.rows, -(-y.width // tile.columns)) as (block, row, t):
                    column = clamped_start(t, tile.columns, y.width)
                    totals = self._count(planes, w, (block, row, column))
                    vector = clamped_start(block, tile.vectors, shape.vectors)
                    begun = self._begun(totals, start, vector)
                    sums = [
                        PixelSums((image, first + row, column + p), acc)
                        for p, acc in enumerate(begun)
                    ]
                    bound.store(sums, vector * lanes, lanes)

        constants = (("w", "int32"), ("start", "int32"), ("factor", "float32"))
        return c_function(self.epilogue.parameters(("x", "int8"), constants), body)

    def _pack(self, x: Buffer, image: Expr, first: Expr) -> Buffer:
        """Return int32 [rows, columns, words, planes] of the rows that a task reads.

        Output row ``first`` and those below it read them.
        """
        shape, layout, window = self.shape, self.shape.x, self.shape.window
        packed = scratch(shape.pixels(self.tile) * shape.words * shape.planes, "int32")
        corner = layout.origin - window.padding.top * layout.row
        corner = corner - window.padding.left * layout.stored + image * layout.image
        corner = corner + first * (window.stride[0] * layout.row)
        with T.grid(shape.rows_read(self.tile.rows), shape.columns, shape.words) as (r, s, word):
            place = corner + r * layout.row + s * layout.stored + word * WORD
            codes = self._without_padding(load(x, place, WORD), word)
            number = ((r * shape.columns + s) * shape.words + word) * shape.planes
            for i, bits in enumerate(shape.counter.packed(codes, shape.planes)):
                store(packed, number + i, bits, 1)
        return packed

    def _without_padding(self, codes: Expr, word: Expr) -> Expr:
        """Return codes without padding channels of the last word, unless a plane masks them."""
        rest = self.shape.x.channels % WORD
        if self.shape.form.masked or not rest:
            return codes
        kept = T.Shuffle([T.int8(-1 if i < rest else 0) for i in range(WORD)], [*range(WORD)])
        last = word == self.shape.words - 1
        return T.bitwise_and(codes, T.Select(last, kept, splat(T.int8(-1), WORD)))

    def _count(self, planes: Buffer, w: Buffer, at: tuple[Expr, Expr, Expr]) -> list[list[Buffer]]:
        """Return the sums of one tile, int32, by pixel and vector."""
        shape, tile, run = self.shape, self.tile, self.shape.run
        totals = [zeros(tile.vectors, "int32", shape.lanes) for _ in range(tile.columns)]
        with T.grid(*shape.steps.over(run)) as number:
            kind = shape.counter.counts
            counts = [
                [zeros(len(shape.magnitudes), *kind) for _ in range(tile.vectors)]
                for _ in range(tile.columns)
            ]
            with T.grid(*run) as inner:
                step = tuple(n * size + m for n, size, m in zip(number, run, inner, strict=True))
                self._add_step(counts, planes, w, (*at, *step))
            for slots, pixel in zip(totals, counts, strict=True):
                for slot, each in zip(slots, pixel, strict=True):
                    values = [count[0] for count in each]
                    pairs = [*zip(shape.magnitudes, values, strict=True)]
                    assign(slot, slot[0] + shape.counter.joined(pairs))
        return totals

    def _begun(
        self, totals: list[list[Buffer]], start: Buffer, vector: Expr
    ) -> Iterator[list[Expr]]:
        """Yield the accumulators of every pixel: sums and what they start with."""
        lanes, wide = self.shape.lanes, range(self.tile.vectors)
        starts = in_registers([load(start, (vector + n) * lanes, lanes) for n in wide])
        for slots in totals:
            yield [first + slot[0] for first, slot in zip(starts, slots, strict=True)]

    def _add_step(
        self,
        counts: list[list[list[Buffer]]],
        planes: Buffer,
        w: Buffer,
        at: tuple[Expr, ...],
    ) -> None:
        """Add the counts of one word of every pixel."""
        shape, (block, row, column, r, s, word) = self.shape, at
        (sy, sx), (dy, dx) = shape.window.stride, shape.window.dilation
        rows, columns, depth = shape.steps
        weights = self._weights(w, ((block * rows + r) * columns + s) * depth + word)
        pixel = (row * sy + r * dy) * shape.columns + column * sx + s * dx
        for p, slots in enumerate(counts):
            place = ((pixel + p * sx) * depth + word) * shape.planes
            words = [splat(planes[place + i], shape.lanes) for i in range(shape.planes)]
            for i, code in enumerate(in_registers(words)):
                for magnitudes, weight in zip(slots, weights, strict=True):
                    self._add(magnitudes, i, code, weight)

    def _weights(self, w: Buffer, step: Expr) -> list[list[Expr]]:
        """Return the weight planes of one step by vector, loaded once for all pixels."""
        count, lanes = self.shape.form.stored, self.shape.lanes
        first, all_ = step * (self.tile.vectors * count), range(self.tile.vectors * count)
        values = in_registers([load(w, (first + i) * lanes, lanes) for i in all_])
        return [values[i : i + count] for i in range(0, len(values), count)]

    def _add(self, counts: list[Buffer], plane: int, code: Expr, weight: list[Expr]) -> None:
        """Add the counts of one plane of codes, by magnitude."""
        form, counter, magnitudes = self.shape.form, self.shape.counter, self.shape.magnitudes
        if form.signed:
            (code,) = in_registers([T.bitwise_xor(code, weight[0])])
        for n, factor in enumerate(form.factors):
            bits = T.bitwise_and(code, weight[form.signed + n]) if form.masked else code
            slot = counts[magnitudes.index(factor << plane)]
            assign(slot, slot[0] + counter.counted(bits))
