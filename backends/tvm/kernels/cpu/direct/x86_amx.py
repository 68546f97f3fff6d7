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

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import BoundEpilogue, Epilogue
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.amx import (
    DEPTH,
    INSTRUCTION,
    AmxShape,
    Blocking,
    best_blockings,
    configuration,
    extent_of,
    groups_of,
    pack,
    pitch_of,
    rows_of,
    width_of,
)
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    c_function,
    call_intrinsic_void,
    clamped_start,
    load,
    scratch,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Conv2d

MOST_BLOCKINGS = 8
FEWEST_PIXELS = 4  # below, the tile unit idles and direct kernels are faster


def refuses(site: Site) -> str | None:
    """Return why the tile unit cannot compute the site, or is the slower choice."""
    if "amx-int8" not in site.target.features:
        return "needs AMX"
    assert isinstance(site.node, Conv2d)
    if site.node.groups > 1:
        return "needs one group"
    y = site.output.codes
    if y.height * y.width < FEWEST_PIXELS:
        return f"needs {FEWEST_PIXELS} pixels to fill tiles, has {y.height * y.width}"
    return None


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the blockings of the fewest predicted cycles."""
    assert isinstance(site.node, Conv2d)
    shape = AmxShape(site.node.window, site.inputs[0].codes, site.output.codes)
    work = site.work(INSTRUCTION)
    return tuple(
        Candidate(str(blocking), cycles, partial(build, site, shape, blocking), work)
        for blocking, cycles in best_blockings(site, shape, MOST_BLOCKINGS)
    )


def build(site: Site, shape: AmxShape, blocking: Blocking) -> Call:
    """Return the call of one blocking."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    start, factor = start_and_factor(node.weight, x.q, y.value.q)
    padding = (0, shape.vectors * VECTOR - y.codes.channels)
    packed = pack(node.weight.codes, shape, blocking)
    constants = (configuration(blocking), packed, np.pad(start, padding), np.pad(factor, padding))
    return site.call(kernel(shape, blocking, epilogue_of(site)), constants)


FAMILY = Family("amx", (Conv2d,), candidates, refuses)


# --- the code ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Buffers:
    x: Buffer
    w: Buffer
    start: Buffer
    bound: BoundEpilogue


def kernel(shape: AmxShape, b: Blocking, epilogue: Epilogue) -> PrimFunc:
    """Return ``f(x, [residual], configuration, weights, start, factor, outputs)``."""
    blocks = -(-shape.vectors // b.vectors)
    items = shape.x.batch * (groups_of(shape, b) if b.flat else rows_of(shape, b))

    def body(x_: Expr, *others: Expr) -> None:
        (setup, w_, start_, factor_), arguments = epilogue.split(others)
        outputs = shape.vectors * VECTOR
        weights = blocks * b.vectors * len(shape.runs) * shape.steps * VECTOR * DEPTH
        buffers = _Buffers(
            view(x_, "uint8", shape.x.size_bytes),
            view(w_, "int8", weights),
            view(start_, "int32", outputs),
            arguments.bind(factor_, outputs),
        )
        with T.parallel(0, blocks * items) as item:
            call_intrinsic_void("llvm.x86.ldtilecfg", setup)
            if b.blocks_outside:
                block, place = item // items, item % items
            else:
                block, place = item % blocks, item // blocks
            if b.flat:
                image, group = place // groups_of(shape, b), place % groups_of(shape, b)
                _tile_group(shape, b, buffers, (block, image, 0, group))
            else:
                image, rows = place // rows_of(shape, b), place % rows_of(shape, b)
                with T.serial(0, groups_of(shape, b)) as group:
                    _tile_group(shape, b, buffers, (block, image, rows, group))
            call_intrinsic_void("llvm.x86.tilerelease")

    constant = (("setup", "uint8"), ("w", "int8"), ("start", "int32"), ("factor", "float32"))
    return c_function(epilogue.parameters(("x", "uint8"), constant), body)


def _tile_group(
    shape: AmxShape, b: Blocking, buffers: _Buffers, at: tuple[Expr, Expr, Expr, Expr]
) -> None:
    block, image, rows, group = at
    extent, width = extent_of(shape, b.flat), width_of(shape, b)
    row = 0 if b.flat else clamped_start(rows, b.down, shape.y.height)
    column = clamped_start(group, width, extent)
    # Where the tiles are more than the image holds, the last one overlaps its neighbour.
    tiles = [
        (row + i, column + min(j * b.pixels, width - b.pixels))
        for i, j in product(range(b.down), range(b.across))
    ]
    vector = clamped_start(block, b.vectors, shape.vectors)
    _multiply(shape, b, buffers, (block, image, vector), tiles)
    sums = [scratch(b.pixels * VECTOR, "int32") for _ in range(b.accumulators)]
    for i, memory in enumerate(sums):
        call_intrinsic_void(
            "llvm.x86.tilestored64", T.int8(i), T.address_of(memory[0]), T.int64(DEPTH)
        )
    for memory, ((row, column), n) in zip(sums, product(tiles, range(b.vectors)), strict=True):
        _store_outputs(shape, b, buffers.bound, memory, (image, row, column, vector + n))


def _multiply(
    shape: AmxShape,
    b: Blocking,
    buffers: _Buffers,
    at: tuple[Expr, Expr, Expr],
    tiles: list[tuple[Expr, Expr]],
) -> None:
    block, image, vector = at
    (sy, sx), (dy, dx), x = shape.window.stride, shape.window.dilation, shape.x
    padding = shape.window.padding
    corner = x.origin - padding.top * x.row - padding.left * x.stored + image * x.image
    corners = [corner + row * (sy * x.row) + column * (sx * x.stored) for row, column in tiles]
    for i, (_, n) in enumerate(product(tiles, range(b.vectors))):
        start = T.address_of(buffers.start[(vector + n) * VECTOR])
        call_intrinsic_void("llvm.x86.tileloadd64", T.int8(i), start, T.int64(0))
    for number, (r, s) in enumerate(shape.runs):
        with T.serial(0, shape.steps) as step:
            offset = r * dy * x.row + s * dx * x.stored + step * DEPTH
            base = (block * len(shape.runs) + number) * shape.steps + step
            _step(b, buffers, [c + offset for c in corners], sx * x.stored, base)


def _step(b: Blocking, buffers: _Buffers, places: list[Expr], stride: int, base: Expr) -> None:
    """Multiply one step of every tile: the weights once, the inputs in turn."""
    first_weight = b.accumulators + b.inputs
    for n in range(b.vectors):
        weights = T.address_of(buffers.w[(base * b.vectors + n) * (VECTOR * DEPTH)])
        call_intrinsic_void(
            "llvm.x86.tileloadd64", T.int8(first_weight + n), weights, T.int64(DEPTH)
        )
    for i, place in enumerate(places):
        codes = T.int8(b.accumulators + i % b.inputs)
        call_intrinsic_void(
            "llvm.x86.tileloadd64", codes, T.address_of(buffers.x[place]), T.int64(stride)
        )
        for n in range(b.vectors):
            accumulator = T.int8(i * b.vectors + n)
            call_intrinsic_void("llvm.x86.tdpbusd", accumulator, codes, T.int8(first_weight + n))


def _store_outputs(
    shape: AmxShape,
    b: Blocking,
    bound: BoundEpilogue,
    sums: Buffer,
    at: tuple[Expr, Expr, Expr, Expr],
) -> None:
    """Requantize and store one tile of accumulators."""
    image, row, first, vector = at
    pitch, width = pitch_of(shape), shape.y.width

    def acc(p: Expr) -> list[Expr]:
        return [load(sums, p * VECTOR, VECTOR)]

    if not b.flat:
        pixels = [PixelSums((image, row, first + p), acc(p)) for p in range(b.pixels)]
        bound.store(pixels, vector * VECTOR, VECTOR)
        return
    together = min(TOGETHER, b.pixels)
    with T.serial(0, -(-b.pixels // together)) as group:
        pixels = []
        for p in (clamped_start(group, together, b.pixels) + i for i in range(together)):
            down, across = (first + p) // pitch, (first + p) % pitch
            kept = None if pitch == width else across < width
            pixels.append(PixelSums((image, down, T.min(across, width - 1)), acc(p), kept))
        bound.store(pixels, vector * VECTOR, VECTOR)
