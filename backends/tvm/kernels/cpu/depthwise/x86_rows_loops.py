"""The code of depthwise convolution by dot products over the rows of a window."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_lanes import Lanes
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_tiling import (
    ChannelBlocks,
    RowsTile,
    taps_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER, narrowed
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    align_stack,
    assign,
    c_function,
    call_intrinsic,
    cast,
    clamped_start,
    load,
    registers,
    view,
)
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import QParams, Window


@dataclass(frozen=True, slots=True)
class _Buffers:
    x: Buffer
    permutation: Buffer
    w: Buffer
    start: Buffer
    factor: Buffer
    addend: Buffer
    zeros: Buffer
    y: Buffer


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the pixels and the constants of a tile begin."""

    x: Expr
    y: Expr
    weights: Expr
    channels: Expr  # of start and factor
    column: Expr


@dataclass(frozen=True, slots=True)
class RowsKernel:
    """The function of one tile, in straight code: no loop over its pixels and taps."""

    x: Layout
    y: Layout
    window: Window
    tile: RowsTile
    q: QParams
    fused: bool  # requantized as in ``requant_by_fma``

    def function(self) -> PrimFunc:
        """Return ``f(x, turn, weights, start, factor, addend, zeros, y)``."""
        parts, dtype = self.tile.parts, self.tile.parts[0].lanes.dtype
        weights = sum(part.blocks * self._weights(part) for part in parts)
        channels = sum(part.blocks * part.lanes.channels for part in parts)
        parameters = (
            ("x", "uint8", self.x.size_bytes),
            ("turn", "int8", 64),
            ("w", dtype, weights),
            ("start", "int32", channels),
            ("factor", "float32", channels),
            ("addend", "float32", channels),
            ("zeros", "int32", self.y.width),
            ("y", "uint8", self.y.size_bytes),
        )

        def body(*pointers: Expr) -> None:
            views = (view(p, kind, n) for p, (_, kind, n) in zip(pointers, parameters, strict=True))
            self._tiles(_Buffers(*views))

        return c_function(tuple((name, kind) for name, kind, _ in parameters), body)

    def _weights(self, part: ChannelBlocks) -> int:
        """Return the weights of one block."""
        taps = taps_of(self.window, self.tile.rows, part.lanes)
        return taps.count * part.lanes.vectors * part.lanes.elements

    def _tiles(self, buffers: _Buffers) -> None:
        y, rows, parts = self.y, self.tile.rows, self.tile.parts
        row_tiles, blocks = -(-y.height // rows), sum(part.blocks for part in parts)
        with T.parallel(0, y.batch * row_tiles * blocks) as item:
            align_stack()
            block, strip = item % blocks, item // blocks
            image, row = strip // row_tiles, clamped_start(strip % row_tiles, rows, y.height)
            if len(parts) == 1:
                self._strip(buffers, 0, block, (image, row))
            else:
                with T.If(block < parts[0].blocks):
                    with T.Then():
                        self._strip(buffers, 0, block, (image, row))
                    with T.Else():
                        self._strip(buffers, 1, block - parts[0].blocks, (image, row))

    def _strip(self, buffers: _Buffers, number: int, block: Expr, at: tuple[Expr, Expr]) -> None:
        """Compute the rows of a tile for one block of part ``number``."""
        (image, row), x, y, window = at, self.x, self.y, self.window
        part, before = self.tile.parts[number], self.tile.parts[:number]
        skipped = sum(p.blocks * self._weights(p) for p in before)
        first = x.origin - window.padding.top * x.row - window.padding.left * x.stored
        with T.serial(0, -(-y.width // self.tile.columns)) as tile:
            column = clamped_start(tile, self.tile.columns, y.width)
            down, across = row * (window.stride[0] * x.row), column * (window.stride[1] * x.stored)
            place = _Place(
                first + image * x.image + down + across + part.start(block),
                y.origin + image * y.image + row * y.row + column * y.stored + part.start(block),
                skipped + block * self._weights(part),
                sum(p.blocks * p.lanes.channels for p in before) + block * part.lanes.channels,
                column,
            )
            _Straight(self, part.lanes, buffers, place).run()


@dataclass(frozen=True, slots=True)
class _Straight:
    """The straight code of one tile; ``made`` holds the vectors of codes so far."""

    kernel: RowsKernel
    lanes: Lanes
    buffers: _Buffers
    at: _Place
    made: dict[tuple[int, int], list[Buffer]] = field(default_factory=dict)

    def run(self) -> None:
        """Compute all pixels of the tile."""
        tile, lanes = self.kernel.tile, self.lanes
        for first in range(0, tile.columns, lanes.pixels):
            pixels = range(first, min(first + lanes.pixels, tile.columns))
            # A zero that LLVM does not know. Without it, LLVM would load all weights of a tile once
            # and spill them.
            zero = registers(1, "int32")[0]
            assign(zero, self.buffers.zeros[self.at.column + first])
            number = 0
            for row in range(tile.rows):
                acc = self._start(pixels, zero)
                number = self._products(acc, pixels, row, number, zero)
                self._store_outputs(acc, pixels, row, zero)

    def _start(self, pixels: range, zero: Buffer) -> list[list[Buffer]]:
        lanes, channels = self.lanes.lanes, self.at.channels + zero[0]
        acc = [registers(self.lanes.vectors, f"int32x{lanes}") for _ in pixels]
        for pixel in acc:
            for v, slot in enumerate(pixel):
                assign(slot, load(self.buffers.start, channels + v * lanes, lanes))
        return acc

    def _products(
        self, acc: list[list[Buffer]], pixels: range, row: int, number: int, zero: Buffer
    ) -> int:
        lanes, window = self.lanes, self.kernel.window
        for s, group, _ in taps_of(window, self.kernel.tile.rows, lanes).products(row):
            for v in range(lanes.vectors):
                weight = registers(1, f"{lanes.dtype}x{lanes.elements}")[0]
                place = self.at.weights + zero[0] + (number * lanes.vectors + v) * lanes.elements
                assign(weight, load(self.buffers.w, place, lanes.elements))
                for p, pixel in zip(pixels, acc, strict=True):
                    column = p * window.stride[1] + s * window.dilation[1]
                    codes = self._codes(column, group)[v][0]
                    assign(pixel[v], lanes.accumulate(pixel[v][0], codes, weight[0]))
            number += 1
        return number

    def _codes(self, column: int, group: int) -> list[Buffer]:
        """Return the vectors of codes of one input column, made when it is first read."""
        if (column, group) not in self.made:
            x, lanes = self.kernel.x, self.lanes
            taps = taps_of(self.kernel.window, self.kernel.tile.rows, lanes)
            codes = [
                load(
                    self.buffers.x,
                    self.at.x + row * x.row + (column + across) * x.stored,
                    lanes.channels,
                )
                for row, across in taps.groups[group]
            ]
            vectors = lanes.interleaved(codes, load(self.buffers.permutation, 0, 64))
            dtype = f"{lanes.dtype}x{lanes.elements}"
            slots = registers(lanes.vectors, dtype)
            for slot, vector in zip(slots, vectors, strict=True):
                assign(slot, T.reinterpret(dtype, vector))
            self.made[column, group] = slots
        return self.made[column, group]

    def _store_outputs(
        self, acc: list[list[Buffer]], pixels: range, row: int, zero: Buffer
    ) -> None:
        lanes, y = self.lanes, self.kernel.y
        steps = [
            self._step(slot[0], self.at.channels + zero[0] + v * lanes.lanes)
            for pixel in acc
            for v, slot in enumerate(pixel)
        ]
        steps += steps[-1:] * (TOGETHER - len(steps))
        codes = registers(1, f"uint8x{TOGETHER * lanes.lanes}")[0]
        assign(codes, narrowed(steps, self.kernel.q, lanes.lanes))
        places = [self.at.y + row * y.row + p * y.stored for p in pixels]
        lanes.store(self.buffers.y, places, codes[0])

    def _step(self, acc: Expr, channel: Expr) -> Expr:
        """Return the real steps of an accumulator."""
        lanes = self.lanes.lanes
        factor = load(self.buffers.factor, channel, lanes)
        if not self.kernel.fused:
            return cast("float32", lanes, acc) * factor
        dtype, addend = f"float32x{lanes}", load(self.buffers.addend, channel, lanes)
        return call_intrinsic("llvm.fma", dtype, T.reinterpret(dtype, acc), factor, addend)
