"""Depthwise convolution by dot products over the rows of a window.

``x86_rows_lanes`` puts the codes of several rows of one column and channel into one int32 lane.
All output rows of a tile share these vectors: with four rows in a lane, the first output row of a
3x3 kernel multiplies them by the taps (w0, w1, w2, 0) and the second one by (0, w0, w1, w2). Along
a row each vector serves as many columns as the kernel is wide. With two rows in a lane and one row
of outputs, the third row of taps is left over, and shares its lanes with the next column: five dot
products instead of six. The accumulator starts at
``bias - z * sum of w``, as in ``direct``, and is requantized four vectors at a time.

The proof obligation is that of ``narrowing``: |acc * factor| < 2**31, from the weights. Where
``requant_by_fma`` proves more, one instruction per accumulator replaces a conversion and a product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.cpu.depthwise import loops
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_lanes import Lanes, lanes_for
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_tiling import (
    ChannelBlocks,
    RowsTile,
    taps_of,
    tiles,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER, narrowed
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import (
    STEPS,
    accumulators,
    largest_step,
    start_and_factor,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import fused_scale
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
from gmpq.ir import Conv2d, QParams, Window

MOST_TILES = 6


def refuses(site: Site) -> str | None:
    """Return why the site is not depthwise, or why no tile computes it exactly."""
    if (reason := loops.refuses_reals(site)) is not None:
        return reason
    if not lanes_for(site.target):
        return "needs AVX2 or AVX-512 VNNI"
    if not tiles(site):
        return "the kernel is too large for the registers"
    assert isinstance(site.node, Conv2d)
    steps = largest_step(site.node.weight, site.inputs[0].q, site.output.q)
    return None if steps < STEPS else f"may requantize to {steps:.3g} steps, beyond int32"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    return tuple(
        Candidate(str(tile), cycles, partial(build, site, tile), site.work(tile.instruction))
        for tile, cycles in tiles(site)[:MOST_TILES]
    )


def build(site: Site, tile: RowsTile) -> Call:
    """Return the call of one tile."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    padding = (0, y.codes.stored - y.codes.channels)
    codes = np.pad(node.weight.codes[:, 0], (padding, (0, 0), (0, 0)))
    order = np.concatenate([part.order().reshape(-1) for part in tile.parts])
    start, factor = start_and_factor(node.weight, x.q, y.q)
    fused = fused_scale(*accumulators(node.weight, x.q), factor, y.q)
    raised, addend = np.zeros_like(start), np.zeros_like(factor)
    if fused is not None:
        raised, factor, addend = fused.raised, fused.factor, fused.addend
    constants = (
        tile.parts[-1].lanes.turn,
        np.concatenate([_packed(codes, node.window, tile.rows, part) for part in tile.parts]),
        *(np.pad(array, padding)[order] for array in (start + raised, factor, addend)),
        np.zeros(y.codes.width, np.int32),
    )
    kernel = _Kernel(x.codes, y.codes, node.window, tile, y.q, fused is not None)
    return site.call(kernel.function(), constants)


def _packed(codes: Array, window: Window, rows: int, part: ChannelBlocks) -> Array:
    """Return flat weights [blocks, products, vectors, lanes, places of a lane] of [C, kH, kW]."""
    order, lanes, taps = part.order(), part.lanes, taps_of(window, rows, part.lanes)
    products = [product for output in range(rows) for product in taps.products(output)]
    found = np.zeros((part.blocks, len(products), *order.shape[1:], lanes.rows), lanes.dtype)
    for number, (_, _, places) in enumerate(products):
        for place, tap in enumerate(places):
            if tap is not None:
                found[:, number, :, :, place] = codes[order, *tap]
    return found.reshape(-1)


FAMILY = Family("depthwise_rows", (Conv2d,), candidates, refuses)


# --- the code ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Buffers:
    x: Buffer
    turn: Buffer
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
class _Kernel:
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

    kernel: _Kernel
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
                self._finish(acc, pixels, row, zero)

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
                    self.at.x + row * x.row + (column + beside) * x.stored,
                    lanes.channels,
                )
                for row, beside in taps.groups[group]
            ]
            vectors = lanes.interleaved(codes, load(self.buffers.turn, 0, 64))
            dtype = f"{lanes.dtype}x{lanes.elements}"
            slots = registers(lanes.vectors, dtype)
            for slot, vector in zip(slots, vectors, strict=True):
                assign(slot, T.reinterpret(dtype, vector))
            self.made[column, group] = slots
        return self.made[column, group]

    def _finish(self, acc: list[list[Buffer]], pixels: range, row: int, zero: Buffer) -> None:
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
