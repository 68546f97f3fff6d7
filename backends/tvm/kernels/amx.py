"""Convolution on the AMX tile unit (Intel SDM, TDPBUSD): 16 pixels x 16 outputs x 64 codes at once.

A tile of input is up to 16 pixels, which lie a fixed distance apart in memory, times 64 consecutive
codes; with no dilation the codes of one row of the kernel, all its columns and channels, are
consecutive, and the weights are laid out in that order, with zeros for padding channels and for
what a last step reads beyond the row. Products are exact in int32, and accumulators start as in
``direct``: the start values are loaded into every row of a tile by a stride of 0.

Two ways to count pixels:

- rows: a tile lies within one image row; any stride.
- flat: stride 1 only; pixels are numbered along the padded rows, so that a tile runs over row ends;
  the columns computed in the halo are dropped. Small images fill their tiles this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array, Call, Family, Site
from gmpq.backends.tvm.kernels.direct import start_and_factor
from gmpq.backends.tvm.layout import GROUP, VECTOR, Layout
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    cast,
    inwards,
    load,
    run,
    scratch,
    store,
    to_codes,
    view,
)
from gmpq.ir import Conv2d, QParams, Window

DEPTH = 64  # codes of one tile row
TILES = 8
FEWEST_PIXELS = 4  # below, the tile unit idles and direct kernels are faster
LATENCY, LOAD = 52, 8  # cycles of a product and of a tile load from the first-level cache
FINISH = 5  # cycles to requantize 16 accumulators


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that the loops run over."""

    window: Window
    x: Layout
    y: Layout

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Rows and columns of the kernel at which a run of consecutive codes starts."""
        rows, columns = self.window.kernel
        return list(product(range(rows), range(1 if self._whole_rows else columns)))

    @property
    def taps_per_run(self) -> int:
        """Taps whose codes one run covers."""
        return self.window.kernel[1] if self._whole_rows else 1

    @property
    def steps(self) -> int:
        """Tile products per run."""
        return -(-self.taps_per_run * self.x.stored // DEPTH)

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return -(-self.y.channels // VECTOR)

    @property
    def _whole_rows(self) -> bool:
        return self.window.dilation[1] == 1


@dataclass(frozen=True, slots=True)
class Blocking:
    """How pixels and outputs are cut into tiles."""

    flat: bool
    pixels: int  # of one tile
    tiles: int  # of pixels at once
    vectors: int  # of outputs at once
    blocks_outside: bool

    @property
    def registers(self) -> int:
        """Tile registers: accumulators, input, weights."""
        return self.tiles * self.vectors + self.tiles + self.vectors


def refuses(site: Site) -> str | None:
    """Return why the tile unit cannot compute the site, or is the slower choice."""
    if "amx-int8" not in site.target.features:
        return "needs AMX"
    if not isinstance(site.node, Conv2d):
        return "computes convolutions only"
    if site.node.groups > 1:
        return "needs one group"
    y = site.output.codes
    if y.height * y.width < FEWEST_PIXELS:
        return f"needs {FEWEST_PIXELS} pixels to fill tiles, has {y.height * y.width}"
    return None


def build(site: Site) -> Call:
    """Return the call with the blocking of the fewest predicted cycles."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    shape = Shape(node.window, x.codes, y.codes)
    blocking = choose(shape, site.target.cache_bytes)
    start, factor = start_and_factor(node.weight, x.q, y.q)
    padding = (0, shape.vectors * VECTOR - y.codes.channels)
    packed = _pack(node.weight.codes, shape, blocking)
    constants = (_configuration(blocking), packed, np.pad(start, padding), np.pad(factor, padding))
    function = kernel(shape, blocking, y.q)
    return Call(function, (x.value.name,), constants, y.value.name)


FAMILY = Family("amx", refuses, build)


# --- the blocking --------------------------------------------------------------------------------


def choose(shape: Shape, cache_bytes: int) -> Blocking:
    """Return the blocking with the fewest predicted cycles."""
    candidates = [
        Blocking(flat, pixels, tiles, vectors, _blocks_outside(shape, cache_bytes))
        for flat in ((False, True) if shape.window.stride == (1, 1) else (False,))
        for pixels in range(1, min(16, _extent(shape, flat)) + 1)
        for tiles, vectors in ((2, 2), (1, 2), (2, 1), (3, 1), (1, 3), (1, 1))
        if vectors <= shape.vectors
    ]
    fitting = [b for b in candidates if b.registers <= TILES]
    return min(fitting, key=lambda b: _cycles(shape, b))


def _extent(shape: Shape, flat: bool) -> int:
    """Return the pixels along which tiles follow each other."""
    return (shape.y.height - 1) * _pitch(shape) + shape.y.width if flat else shape.y.width


def _pitch(shape: Shape) -> int:
    """Return the pixels from one stored input row to the next."""
    return shape.x.row // shape.x.stored


def _cycles(shape: Shape, b: Blocking) -> float:
    groups = -(-_extent(shape, b.flat) // (b.pixels * b.tiles))
    if not b.flat:
        groups *= shape.y.height
    blocks = -(-shape.vectors // b.vectors)
    products = b.tiles * b.vectors * b.pixels
    step = max(products, LATENCY, LOAD * (b.tiles + b.vectors))
    finish = products * (FINISH + b.flat)
    return groups * blocks * (len(shape.runs) * shape.steps * step + finish + LATENCY)


def _blocks_outside(shape: Shape, cache_bytes: int) -> bool:
    weights = shape.vectors * len(shape.runs) * shape.steps * VECTOR * DEPTH
    return weights > min(shape.x.image, cache_bytes // 4)


# --- the code ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Buffers:
    x: Buffer
    w: Buffer
    start: Buffer
    factor: Buffer
    y: Buffer


def kernel(shape: Shape, b: Blocking, q: QParams) -> PrimFunc:
    """Return ``f(x, configuration, weights, start, factor, y)``."""
    blocks = -(-shape.vectors // b.vectors)
    rows = 1 if b.flat else shape.y.height
    items = shape.x.batch * (_groups(shape, b) if b.flat else rows)

    def body(x_: Expr, setup: Expr, w_: Expr, start_: Expr, factor_: Expr, y_: Expr) -> None:
        outputs = shape.vectors * VECTOR
        weights = blocks * b.vectors * len(shape.runs) * shape.steps * VECTOR * DEPTH
        buffers = _Buffers(
            view(x_, "uint8", shape.x.size_bytes),
            view(w_, "int8", weights),
            view(start_, "int32", outputs),
            view(factor_, "float32", outputs),
            view(y_, "uint8", shape.y.size_bytes),
        )
        with T.parallel(0, blocks * items) as item:
            run("llvm.x86.ldtilecfg", setup)
            if b.blocks_outside:
                block, place = item // items, item % items
            else:
                block, place = item % blocks, item // blocks
            if b.flat:
                image, group = place // _groups(shape, b), place % _groups(shape, b)
                _tile_group(shape, b, q, buffers, (block, image, 0, group))
            else:
                image, row = place // rows, place % rows
                with T.serial(0, _groups(shape, b)) as group:
                    _tile_group(shape, b, q, buffers, (block, image, row, group))
            run("llvm.x86.tilerelease")

    parameters = (("x", "uint8"), ("setup", "uint8"), ("w", "int8"), ("start", "int32"))
    return c_function((*parameters, ("factor", "float32"), ("y", "uint8")), body)


def _groups(shape: Shape, b: Blocking) -> int:
    """Return how many groups of tiles follow each other in a row, or in a flat image."""
    return -(-_extent(shape, b.flat) // (b.pixels * b.tiles))


def _tile_group(
    shape: Shape, b: Blocking, q: QParams, buffers: _Buffers, at: tuple[Expr, Expr, Expr, Expr]
) -> None:
    block, image, row, group = at
    extent = _extent(shape, b.flat)
    width = min(b.pixels * b.tiles, extent)
    first = inwards(group, width, extent)
    # When two tiles are more than the image holds, the second one overlaps the first.
    pixels = [first + min(i * b.pixels, extent - b.pixels) for i in range(b.tiles)]
    vector = inwards(block, b.vectors, shape.vectors)
    _multiply(shape, b, buffers, (block, image, row, vector), pixels)
    sums = [scratch(b.pixels * VECTOR, "int32") for _ in range(b.tiles * b.vectors)]
    for i, memory in enumerate(sums):
        run("llvm.x86.tilestored64", T.int8(i), T.address_of(memory[0]), T.int64(DEPTH))
    for memory, (tile, n) in zip(sums, _accumulators(b), strict=True):
        where = (image, row, pixels[tile], vector + n)
        _finish(shape, b, q, buffers, memory, where)


def _accumulators(b: Blocking) -> Iterator[tuple[int, int]]:
    """Yield pixel tile and output vector of each accumulator register, from 0."""
    return product(range(b.tiles), range(b.vectors))


def _multiply(
    shape: Shape,
    b: Blocking,
    buffers: _Buffers,
    at: tuple[Expr, Expr, Expr, Expr],
    pixels: list[Expr],
) -> None:
    block, image, row, vector = at
    (sy, sx), (dy, dx), x = shape.window.stride, shape.window.dilation, shape.x
    padding = shape.window.padding
    corner = x.origin - padding.top * x.row - padding.left * x.stored + image * x.image
    corner = corner + row * (sy * x.row)
    inputs = b.tiles * b.vectors
    for i, (_, n) in enumerate(_accumulators(b)):
        start = T.address_of(buffers.start[(vector + n) * VECTOR])
        run("llvm.x86.tileloadd64", T.int8(i), start, T.int64(0))
    for number, (r, s) in enumerate(shape.runs):
        with T.serial(0, shape.steps) as step:
            offset = corner + r * dy * x.row + s * dx * x.stored + step * DEPTH
            for i, pixel in enumerate(pixels):
                codes = T.address_of(buffers.x[offset + pixel * (sx * x.stored)])
                run("llvm.x86.tileloadd64", T.int8(inputs + i), codes, T.int64(sx * x.stored))
            base = (block * len(shape.runs) + number) * shape.steps + step
            for n in range(b.vectors):
                place = (base * b.vectors + n) * (VECTOR * DEPTH)
                weights = T.address_of(buffers.w[place])
                run("llvm.x86.tileloadd64", T.int8(inputs + b.tiles + n), weights, T.int64(DEPTH))
            for i, (tile, n) in enumerate(_accumulators(b)):
                operands = (T.int8(inputs + tile), T.int8(inputs + b.tiles + n))
                run("llvm.x86.tdpbusd", T.int8(i), *operands)


def _finish(
    shape: Shape,
    b: Blocking,
    q: QParams,
    buffers: _Buffers,
    sums: Buffer,
    at: tuple[Expr, Expr, Expr, Expr],
) -> None:
    """Requantize one tile of accumulators."""
    image, row, first, vector = at
    y = shape.y
    corner = y.origin + image * y.image + vector * VECTOR
    scale = load(buffers.factor, vector * VECTOR, VECTOR)

    def put(p: Expr, place: Expr) -> None:
        steps = cast("float32", VECTOR, load(sums, p * VECTOR, VECTOR)) * scale
        codes = to_codes(steps, q.zero_point, q.low, q.high, VECTOR)
        store(buffers.y, corner + place, codes, VECTOR)

    if b.flat:
        pitch = _pitch(shape)
        with T.serial(0, b.pixels) as p:
            down, across = (first + p) // pitch, (first + p) % pitch
            if pitch == y.width:
                put(p, down * y.row + across * y.stored)
            else:
                with T.If(across < y.width), T.Then():
                    put(p, down * y.row + across * y.stored)
    else:
        for p in range(b.pixels):
            put(p, row * y.row + (first + p) * y.stored)


# --- the constants -------------------------------------------------------------------------------


def _configuration(b: Blocking) -> Array:
    """Return the 64 bytes that LDTILECFG reads: palette 1, bytes per row, rows of each tile."""
    inputs = b.tiles * b.vectors
    rows = [b.pixels] * (inputs + b.tiles) + [DEPTH // GROUP] * b.vectors
    setup = np.zeros(64, np.uint8)
    setup[0] = 1
    setup[16 : 16 + 2 * len(rows)].view(np.uint16)[:] = DEPTH
    setup[48 : 48 + len(rows)] = rows
    return setup


def _pack(codes: Array, shape: Shape, b: Blocking) -> Array:
    """Return weights int8 [blocks, runs, steps, vectors, 16, 16 * 4]."""
    outputs, channels, rows, columns = codes.shape
    taps = np.zeros((outputs, rows, columns, shape.x.stored), np.int8)
    taps[..., :channels] = codes.transpose(0, 2, 3, 1)
    runs = taps.reshape(outputs, len(shape.runs), shape.taps_per_run * shape.x.stored)
    padded = np.zeros((shape.vectors * VECTOR, len(shape.runs), shape.steps * DEPTH), np.int8)
    padded[:outputs, :, : runs.shape[2]] = runs
    tiles = padded.reshape(
        shape.vectors, VECTOR, len(shape.runs), shape.steps, DEPTH // GROUP, GROUP
    ).transpose(0, 2, 3, 4, 1, 5)  # [vectors, runs, steps, 16, 16, 4]
    blocks = -(-shape.vectors // b.vectors)
    firsts = [min(i * b.vectors, shape.vectors - b.vectors) for i in range(blocks)]
    chosen = np.stack([tiles[first : first + b.vectors] for first in firsts])
    return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1, 4, 5, 6))
