"""First layers on VNNI: a row of taps is read as bytes side by side, without padding channels.

Pixels of C < 4 channels are stored as C bytes, so that the kC taps of a row of the window are
kC * C consecutive bytes. A step multiplies four of them, wherever they begin:

    sum over r of sum over b < kC * C of w[r, b] * x[row r, b]

Bytes that are left over at the end of each row are either read as a step with zero weights for what
follows the row, or gathered: those of all rows make up whole steps, which a thread first writes to
memory for a row of outputs. For 7x7 taps of three channels that is 37 steps, without gathering 42,
and of padded pixels 49; for 3x3 it is 7 and 9.

What a step reads beyond a row is multiplied by zero; the last one of an image reads at most three
bytes beyond it, and a gathering vector one: memory goes on for ``slack`` bytes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Place, Registers, TileSums
from gmpq.backends.tvm.kernels.cpu.direct.direct import constants_of, store_tile
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, best_tiles, blocked
from gmpq.backends.tvm.kernels.cpu.direct.x86_dense_steps import DenseRows, RowSteps
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import Epilogue
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    align_stack,
    assign,
    c_function,
    cast,
    clamped_start,
    in_registers,
    load,
    scratch,
    splat,
    store,
    vector,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving, refuses_dense
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import Conv2d

MOST_TILES, ALL_TILES = 12, 1000


def refuses(site: Site) -> str | None:
    """Return why the site is not for dense pixels."""
    return None if refuses_dense(site) else "pixels are padded to groups of four channels"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    dot = Vpdpbusd()
    work = site.work(dot.instruction)
    found = [
        Candidate(str(rows), cycles, partial(build, site, rows), work)
        for rows, cycles in (each for steps in _cuts(site) for each in _tiles(site, steps))
    ]
    found.sort(key=lambda candidate: candidate.cost)
    return arriving(site, found[:MOST_TILES], 1)


def _cuts(site: Site) -> list[RowSteps]:
    """Return the ways to cut rows into steps: without gathering, and with it if it saves steps."""
    assert isinstance(site.node, Conv2d)
    rows, columns = site.node.window.kernel
    x, y = site.inputs[0].codes, site.output.codes
    padded, gathered = (RowSteps(rows, columns * x.channels, way) for way in (False, True))
    return [padded, gathered] if gathered.total < padded.total and y.width > 1 else [padded]


def _tiles(site: Site, steps: RowSteps) -> list[tuple[DenseRows, float]]:
    """Return tiles with predicted cycles; rows are outside, so that each is gathered once."""
    assert isinstance(site.node, Conv2d)
    dot, x, y = Vpdpbusd(), site.inputs[0].codes, site.output.codes
    window = replace(site.node.window, kernel=(1, 1))
    inputs = steps.total * GROUP
    shape = DirectShape(window, x, y, steps.total, inputs, y.channels, dot.lanes)
    found = [
        (DenseRows(steps, shape, replace(tile, blocks_outside=False)), cycles)
        for tile, cycles in best_tiles(shape, dot, site.target, ALL_TILES)
    ]
    registers = site.target.vector_registers
    return [(rows, cycles + rows.gathering()) for rows, cycles in found if rows.fits(registers)]


def build(site: Site, rows: DenseRows) -> Call:
    """Return the call of one tile."""
    assert isinstance(site.node, Conv2d)
    shape, tile = rows.shape, rows.tile
    arranged = rows.steps.arrange(site.node.weight.codes)
    packed = Vpdpbusd().pack(blocked(arranged, shape, tile))
    return site.call(kernel(rows, epilogue_of(site)), constants_of(site, shape, tile, packed))


FAMILY = Family("direct_dense", (Conv2d,), candidates, refuses)


# --- the code ------------------------------------------------------------------------------------


def kernel(rows: DenseRows, epilogue: Epilogue) -> PrimFunc:
    """Return ``f(x, [residual], weights, start, factor, outputs)``."""
    shape, tile, dot = rows.shape, rows.tile, Vpdpbusd()
    vectors = rows.blocks * tile.vectors

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, factor_), arguments = epilogue.split(others)
        x = view(x_, "uint8", shape.x.size_bytes)
        w = view(w_, dot.dtype, vectors * shape.steps * dot.elements)
        start = view(start_, "int32", vectors * shape.lanes)
        bound = arguments.bind(factor_, shape.vectors * shape.lanes)
        with T.parallel(0, shape.x.batch * rows.row_tiles) as item:
            align_stack()
            image = item // rows.row_tiles
            row = clamped_start(item % rows.row_tiles, tile.rows, shape.y.height)
            gathered = scratch(max(rows.gathered, 1), "int32")
            if rows.gathered:
                _gather(rows, x, gathered, (image, row))
            with T.grid(rows.blocks, -(-shape.y.width // tile.columns)) as (block, column_tile):
                channel = clamped_start(block, tile.vectors, shape.vectors)
                column = clamped_start(column_tile, tile.columns, shape.y.width)
                place = Place(image, row, column, block, channel)
                acc = _accumulate(rows, TileSums(shape, dot, tile, place, x, w, start), gathered)
                store_tile(shape, tile, place, acc, bound)

    constant = (("w", dot.dtype), ("start", "int32"), ("factor", "float32"))
    return c_function(epilogue.parameters(("x", "uint8"), constant), body)


def _accumulate(rows: DenseRows, sums: TileSums, gathered: Buffer) -> Registers:
    """Return the accumulators by pixel and vector."""
    steps, x, place = rows.steps, rows.shape.x, sums.place
    acc = sums.registers(f"int32x{rows.shape.lanes}")
    sums.begin(acc)
    (corner,) = in_registers([sums.corner()])
    with T.grid(steps.rows, steps.whole) as (r, k):
        first = corner + r * (rows.shape.window.dilation[0] * x.row) + k * GROUP
        bytes_ = (load(sums.x, first + offset, GROUP) for offset in sums.offsets())
        _add(sums, acc, [T.reinterpret("int32", four) for four in bytes_], r * steps.whole + k)
    if steps.words:
        with T.serial(0, steps.words) as k:
            pixels = product(range(rows.tile.rows), range(rows.tile.columns))
            places = [_word(rows, row, k) + place.column + column for row, column in pixels]
            _add(sums, acc, [gathered[each] for each in places], steps.rows * steps.whole + k)
    return acc


def _add(sums: TileSums, acc: Registers, codes: list[Expr], step: Expr) -> None:
    """Add the products of a step: of a word of codes for each pixel."""
    weights = sums.weights(sums.w, sums.place.block * sums.shape.depth + step)
    for word, pixel in zip(codes, acc, strict=True):
        operands = in_registers(sums.dot.operands(word))
        for slot, weight in zip(pixel, weights, strict=True):
            assign(slot, sums.dot.accumulate(slot[0], operands, weight))


def _word(rows: DenseRows, row: int, word: Expr) -> Expr:
    """Return where a gathered word of the first pixel in a row of a tile lies."""
    return (row * rows.steps.words + word) * rows.shape.y.width


def _gather(rows: DenseRows, x: Buffer, gathered: Buffer, at: tuple[Expr, Expr]) -> None:
    """Write the bytes that are left over of each row of taps: [rows, words, pixels]."""
    (image, row), steps, source = at, rows.steps, rows.shape.x
    window, width = rows.shape.window, rows.shape.y.width
    down, across = window.stride[0] * source.row, window.stride[1] * source.stored
    corner = source.origin + image * source.image + row * down
    corner -= window.padding.top * source.row + window.padding.left * source.stored
    for i in range(rows.tile.rows):
        with T.serial(0, -(-width // rows.lanes)) as part:
            column = clamped_start(part, rows.lanes, width)
            for word in range(steps.words):
                left = steps.left[word * GROUP : (word + 1) * GROUP]
                codes = _packed(rows, x, corner + i * down + column * across, left)
                store(gathered, _word(rows, i, word) + column, codes, rows.lanes)


def _packed(rows: DenseRows, x: Buffer, first: Expr, left: list[tuple[int, int]]) -> Expr:
    """Return an int32 per pixel of up to four bytes each, that lie ``left`` after ``first``."""
    down, lanes = rows.shape.window.dilation[0] * rows.shape.x.row, rows.lanes
    word = splat(T.int32(0), lanes)
    for number, (row, byte) in enumerate(left):
        codes = _bytes_apart(rows, x, first + (row * down + byte))
        word = T.bitwise_or(word, T.shift_left(codes, splat(T.int32(8 * number), lanes)))
    return word


def _bytes_apart(rows: DenseRows, x: Buffer, first: Expr) -> Expr:
    """Return the byte at ``first`` and those of the next pixels as int32.

    They are picked in pairs, as AVX-512 BW permutes 16 bits, and the odd one of a pair is shifted.
    """
    lanes, apart = rows.lanes, rows.shape.window.stride[1] * rows.shape.x.stored
    count = (lanes - 1) * apart // 2 + 1
    pairs = T.reinterpret(vector("uint16", count), load(x, first, 2 * count))
    enough = [pairs] * -(-lanes // count)  # a shuffle has at most as many results as inputs
    picked = T.Shuffle(enough, [pixel * apart // 2 for pixel in range(lanes)])
    wide = cast("int32", lanes, picked)
    if apart % 2:
        odd = T.bitwise_and(T.ramp(T.int32(0), T.int32(1), lanes), splat(T.int32(1), lanes))
        wide = T.shift_right(wide, odd * splat(T.int32(8), lanes))
    return T.bitwise_and(wide, splat(T.int32(255), lanes))
