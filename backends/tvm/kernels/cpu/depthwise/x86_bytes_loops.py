"""The loops of depthwise convolution in pairs of bytes.

A thread takes rows of outputs, cut into runs of columns, block by block of channels: the blocks of
one run read the same lines of codes. All products of one column of the window are straight code.
LLVM cannot know where the loop over these columns ends: it would unroll it, and add the products in
another order, which takes more registers than there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.depthwise.taps import Taps
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import narrowed, unpacked
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import BITS
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    call_intrinsic,
    clamped_start,
    in_registers,
    load,
    registers,
    scratch,
    splat,
    store,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.x86 import VPMADDUBSW
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import QParams, Window

PAIR = 2  # rows
CHANNELS = 32  # of a block
ELEMENTS = 32  # bytes of a vector of pairs or weights
LANES = 16  # of a vector of sums
VECTORS = CHANNELS // LANES
WIDE_LANES = 8  # of a vector of float32, in which sums become codes


def order() -> Array:
    """Return the channel of each lane of sums, int64 [vectors, lanes].

    Halves of 128 bits are paired.
    """
    vector, lane = np.indices((VECTORS, LANES))
    return np.asarray(lane // 8 * 16 + vector * 8 + lane % 8)


@dataclass(frozen=True, slots=True)
class BytesTile:
    """Output pixels in registers, and the columns that a thread pairs at once."""

    rows: int
    pixels: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.pixels} pixels of {self.columns} columns"

    def taps(self, window: Window) -> Taps:
        """Return which rows are paired."""
        return Taps(window, self.rows, PAIR)

    def read(self, window: Window) -> int:
        """Return the input columns of all columns."""
        return (self.columns - 1) * window.stride[1] + window.reach[1]

    def staged(self, window: Window) -> int:
        """Return the vectors of pairs that lie in memory."""
        return self.read(window) * len(self.taps(window).groups) * VECTORS


@dataclass(frozen=True, slots=True)
class BytesStep:
    """A vector of pairs of one column, and the taps that output rows multiply it by."""

    group: int
    vector: int
    touched: tuple[tuple[int, list[int | None]], ...]  # output row and its taps


@dataclass(frozen=True, slots=True, eq=False)
class _Buffers:
    x: Buffer
    w: Buffer
    start: Buffer
    factor: Buffer
    addend: Buffer
    zeros: Buffer
    y: Buffer


@dataclass(frozen=True, slots=True)
class _PixelRun:
    """Where a run of columns begins, in an image, and the block of channels."""

    image: Expr
    row: Expr
    column: Expr
    block: Expr
    channel: Expr


# By output row and pixel, vectors of sums.
Sums: TypeAlias = dict[tuple[int, int], list[Buffer]]


@dataclass(frozen=True)  # no slots: cached properties live in the instance
class BytesKernel:
    """A depthwise convolution in pairs of bytes."""

    x: Layout
    y: Layout
    window: Window
    tile: BytesTile
    q: QParams

    @cached_property
    def steps(self) -> list[BytesStep]:
        """The products of a column of the window, in their order."""
        taps = self.tile.taps(self.window)
        touched: dict[int, list[tuple[int, list[int | None]]]] = {}
        for row in range(self.tile.rows):
            for column, group, places in taps.products(row):
                if column == 0:
                    rows = [None if tap is None else tap[0] for tap in places]
                    touched.setdefault(group, []).append((row, rows))
        groups = sorted(touched.items())
        return [BytesStep(group, v, tuple(rows)) for group, rows in groups for v in range(VECTORS)]

    @cached_property
    def _column_weights(self) -> int:
        """Vectors of weights of a column of the window."""
        return sum(len(step.touched) for step in self.steps)

    def function(self) -> PrimFunc:
        """Return ``f(x, weights, start, factor, addend, zeros, y)``."""
        y, tile = self.y, self.tile
        blocks = -(-y.stored // CHANNELS)
        weights, channels = blocks * self.window.kernel[1] * self._column_weights, blocks * CHANNELS
        parameters = (
            ("x", "uint8", self.x.size_bytes),
            ("w", "int8", weights * ELEMENTS),
            ("start", "int16", channels),
            ("factor", "float32", channels),
            ("addend", "float32", channels),
            ("zeros", "int32", tile.columns),
            ("y", "uint8", y.size_bytes),
        )
        strips, runs = -(-y.height // tile.rows), -(-y.width // tile.columns)

        def body(*pointers: Expr) -> None:
            views = (view(p, kind, n) for p, (_, kind, n) in zip(pointers, parameters, strict=True))
            buffers = _Buffers(*views)
            with T.parallel(0, y.batch * strips * runs * blocks) as item:
                block, run = item % blocks, item // blocks
                column, strip = clamped_start(run % runs, tile.columns, y.width), run // runs
                row = clamped_start(strip % strips, tile.rows, y.height)
                channel = clamped_start(block, CHANNELS, y.stored)
                self._run(buffers, _PixelRun(strip // strips, row, column, block, channel))

        return c_function(tuple((name, kind) for name, kind, _ in parameters), body)

    def _run(self, buffers: _Buffers, run: _PixelRun) -> None:
        tile = self.tile
        pairs = scratch(tile.staged(self.window) * ELEMENTS, "int8")
        self._pair(buffers.x, pairs, run)
        with T.serial(0, -(-tile.columns // tile.pixels)) as i:
            first = clamped_start(i, tile.pixels, tile.columns)
            self._store_outputs(buffers, run, first, self._sums(buffers, run, first, pairs))

    def _pair(self, x: Buffer, pairs: Buffer, run: _PixelRun) -> None:
        """Put the codes of a run of columns in pairs: [columns, groups, vectors, elements]."""
        window, layout, groups = self.window, self.x, self.tile.taps(self.window).groups
        (sy, sx), padding = window.stride, window.padding
        down, across = run.row * sy - padding.top, run.column * sx - padding.left
        inside = layout.origin + down * layout.row + across * layout.stored
        corner = inside + run.image * layout.image + run.channel
        with T.serial(0, self.tile.read(window)) as column:
            for group, rows in enumerate(groups):
                places = (corner + row * layout.row + column * layout.stored for row, _ in rows)
                codes = in_registers([load(x, place, CHANNELS) for place in places])
                first = (column * len(groups) + group) * VECTORS
                for v in range(VECTORS):
                    store(pairs, (first + v) * ELEMENTS, unpacked(codes, 1, v), ELEMENTS)

    def _sums(self, buffers: _Buffers, run: _PixelRun, first: Expr, pairs: Buffer) -> Sums:
        """Return the sums of the pixels from column ``first`` on."""
        tile, columns = self.tile, self.window.kernel[1]
        groups = len(tile.taps(self.window).groups)
        (zero,) = in_registers([buffers.zeros[first]])
        acc = self._begun(buffers.start, run.block * CHANNELS + zero)
        with T.serial(0, columns + zero) as s:
            number = (run.block * columns + s) * self._column_weights
            for step in self.steps:
                weights = in_registers(
                    [_vector(buffers.w, number + i) for i in range(len(step.touched))]
                )
                number = number + len(step.touched)
                for p in range(tile.pixels):
                    column = (first + p) * self.window.stride[1] + s * self.window.dilation[1]
                    place = (column * groups + step.group) * VECTORS + step.vector
                    (codes,) = in_registers([_vector(pairs, place)])
                    for (row, _), weight in zip(step.touched, weights, strict=True):
                        slot = acc[row, p][step.vector]
                        products = call_intrinsic(
                            VPMADDUBSW[WIDE_LANES], f"int16x{LANES}", codes, weight
                        )
                        assign(slot, slot[0] + products)
        return acc

    def _begun(self, start: Buffer, channel: Expr) -> Sums:
        """Return registers that hold the start values."""
        places = product(range(self.tile.rows), range(self.tile.pixels))
        acc = {place: registers(VECTORS, f"int16x{LANES}") for place in places}
        for pixel in acc.values():
            for v, slot in enumerate(pixel):
                assign(slot, load(start, channel + v * LANES, LANES))
        return acc

    def _store_outputs(self, buffers: _Buffers, run: _PixelRun, first: Expr, acc: Sums) -> None:
        """Requantize and store the sums."""
        y = self.y
        (zero,) = in_registers([buffers.zeros[first]])
        inside = run.row * y.row + (run.column + first) * y.stored + run.channel
        corner = y.origin + run.image * y.image + inside
        for (row, pixel), slots in acc.items():
            sums = [slot[0] for slot in slots]
            steps = self._steps(buffers, sums, run.block * CHANNELS + zero)
            codes = narrowed(in_registers(steps), self.q, WIDE_LANES)
            store(buffers.y, corner + row * y.row + pixel * y.stored, codes, CHANNELS)

    def _steps(self, buffers: _Buffers, sums: list[Expr], channel: Expr) -> list[Expr]:
        """Return the real steps of a pixel's sums, the lower halves of float32."""
        above, dtype = splat(T.int16(BITS >> 16), LANES), f"float32x{WIDE_LANES}"
        halves = [unpacked([each, above], 2, half) for each in sums for half in (0, 1)]
        steps = []
        for v, half in enumerate(halves):
            constants = (buffers.factor, buffers.addend)
            scale = [load(memory, channel + v * WIDE_LANES, WIDE_LANES) for memory in constants]
            steps.append(call_intrinsic("llvm.fma", dtype, T.reinterpret(dtype, half), *scale))
        return steps


def _vector(memory: Buffer, number: Expr) -> Expr:
    """Return one vector of weights or pairs."""
    return load(memory, number * ELEMENTS, ELEMENTS)
