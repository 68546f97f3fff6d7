"""The program of ``direct_pixels``: stages, entries, and sums that are transposed back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_search import OUTPUTS, STEPS
from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_tiles import (
    PIXELS,
    QUAD,
    PixelsStage,
    Staged,
    fill,
    transposed,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import BoundEpilogue, Epilogue
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    clamped_start,
    in_registers,
    load,
    registers,
    scratch,
    splat,
    store,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpmaddubsw
from gmpq.backends.tvm.target.cpu import GROUP

LANES = 8  # of int32
WORDS = OUTPUTS * STEPS + 1  # int32 of an entry: weights and places, and a mask if it has one
PLACE = 2  # int32 of a stage: what a place counts


@dataclass(frozen=True, slots=True)
class PixelsPlan:
    """How a layer is shared out: ``parts`` of the outputs, each for all stages."""

    stage: PixelsStage
    vectors: int  # of outputs, finished together
    parts: int

    @property
    def spans(self) -> int:
        """Stages of an image."""
        return -(-self.stage.pixels.tiles // self.stage.tiles)

    @property
    def blocks(self) -> int:
        """Blocks of ``vectors`` vectors of outputs."""
        return -(-self.stage.shape.vectors // self.vectors)

    @property
    def sums(self) -> int:
        """Of a block and a tile."""
        return self.vectors * LANES * self.stage.width

    def __str__(self) -> str:
        tiles, vectors = self.stage.tiles, self.vectors
        pixels = f"{tiles}x{self.stage.width} pixels"
        return f"{pixels} x {vectors} vectors, {self.parts} parts of outputs"


@dataclass(frozen=True, slots=True)
class PixelsMemory:
    """What the accumulators of a tile are computed from and where its sums go."""

    staged: Staged
    table: Buffer  # int32: entries
    places: Buffer  # the same memory as uint16
    parts: Buffer  # of each pair, where its entries begin, and how many have no mask and one
    start: Buffer  # int32 [outputs]
    sums: Buffer  # int32 [outputs of a block, pixels of a tile]
    bound: BoundEpilogue


def kernel(plan: PixelsPlan, words: int, epilogue: Epilogue) -> PrimFunc:
    """Return ``f(x, [residual], table, parts, start, factor, outputs)``; a table has ``words``."""
    stage, shape = plan.stage, plan.stage.shape
    tiles, outputs = stage.pixels.tiles, shape.vectors * LANES
    per_part = -(-plan.blocks // plan.parts)

    def body(x_: Expr, *others: Expr) -> None:
        (table_, parts_, start_, factor_), arguments = epilogue.split(others)
        x = view(x_, "int32", shape.x.size_bytes // GROUP)
        table, places = view(table_, "int32", words), view(table_, "uint16", 2 * words)
        parts = view(parts_, "int32", 3 * outputs // OUTPUTS)
        start = view(start_, "int32", outputs)
        bound = arguments.bind(factor_, outputs)
        with T.parallel(0, plan.parts * shape.x.batch * plan.spans) as item:
            part, image = item // (shape.x.batch * plan.spans), item // plan.spans % shape.x.batch
            first = item % plan.spans * stage.tiles
            count = T.min(T.int32(stage.tiles), tiles - first)
            staged = fill(stage, x, image, first, count)
            sums = scratch(plan.sums, "int32")
            memory = PixelsMemory(staged, table, places, parts, start, sums, bound)
            blocks = T.min(T.int32(per_part), plan.blocks - part * per_part)
            with T.serial(0, blocks) as block:
                vector = clamped_start(part * per_part + block, plan.vectors, shape.vectors)
                with T.serial(0, count) as tile:
                    _tile(plan, memory, image, vector, first, tile)

    constants = (("table", "int32"), ("parts", "int32"), ("start", "int32"), ("factor", "float32"))
    return c_function(epilogue.parameters(("x", "int32"), constants), body)


def _tile(
    plan: PixelsPlan, memory: PixelsMemory, image: Expr, vector: Expr, first: Expr, tile: Expr
) -> None:
    """Compute the outputs of a block for one tile."""
    pixels = plan.stage.pixels

    def of(vectors: int) -> None:
        with T.serial(0, plan.vectors * LANES // OUTPUTS) as pair:
            _add_pair(plan, memory, vector * (LANES // OUTPUTS), pair, tile, vectors)
        with T.serial(0, vectors) as v:
            _store_outputs(plan, memory, image, vector * LANES, tile, v)

    if pixels.larger == pixels.tiles:
        of(pixels.most)
        return
    with T.If(first + tile < pixels.larger):
        with T.Then():
            of(pixels.most)
        with T.Else():
            of(pixels.most - 1)


def _add_pair(
    plan: PixelsPlan, memory: PixelsMemory, first: Expr, pair: Expr, tile: Expr, vectors: int
) -> None:
    """Put the sums of two outputs into memory."""
    stage = plan.stage
    acc = [registers(vectors, f"int32x{LANES}") for _ in range(OUTPUTS)]
    for n, slots in enumerate(acc):
        (value,) = in_registers([memory.start[(first + pair) * OUTPUTS + n]])
        for slot in slots:
            assign(slot, splat(value, LANES))
    begin, plain, masked = in_registers(
        [T.Cast("int64", memory.parts[3 * (first + pair) + n]) for n in range(3)]
    )
    place = tile * stage.tile_words
    with T.serial(T.int64(0), plain) as i:
        _add_entry(memory, begin + i * WORDS, place, acc, masked=False)
    with T.serial(T.int64(0), masked) as i:
        _add_entry(memory, begin + plain * WORDS + i * (WORDS + 1), place, acc, masked=True)
    for n, slots in enumerate(acc):
        for v, slot in enumerate(slots):
            place = (pair * OUTPUTS + n) * stage.width + v * PIXELS
            store(memory.sums, place, slot[0], LANES)


def _add_entry(
    memory: PixelsMemory, entry: Expr, tile: Expr, acc: list[list[Buffer]], *, masked: bool
) -> None:
    """Add the entry at ``entry`` to accumulators by output and vector of pixels."""
    dot, words = Vpmaddubsw(LANES), memory.staged.codes
    *fields, last = (splat(memory.table[entry + n], LANES) for n in (*range(WORDS - 1), WORDS))
    weights, mask = (
        in_registers([_bytes(each) for each in fields]),
        in_registers([last] if masked else []),
    )
    there = 2 * (entry + WORDS - 1)
    places = in_registers(
        [tile + PLACE * T.Cast("int64", memory.places[there + k]) for k in range(STEPS)]
    )
    for v in range(len(acc[0])):
        loaded = [load(words, place + v * PIXELS, LANES) for place in places]
        flipped = [reduce(T.bitwise_xor, mask, codes) for codes in loaded]
        codes = in_registers([_bytes(each) for each in flipped])
        for n, slots in enumerate(acc):
            products = [dot.pairs([x], [weights[k * OUTPUTS + n]]) for k, x in enumerate(codes)]
            assign(slots[v], slots[v][0] + dot.widen(reduce(add, products)))


def _bytes(words: Expr) -> Expr:
    return T.reinterpret(f"int8x{4 * LANES}", words)


def _store_outputs(
    plan: PixelsPlan, memory: PixelsMemory, image: Expr, channel: Expr, tile: Expr, v: Expr
) -> None:
    """Transpose the sums of a vector of pixels, requantize and store them."""
    width = plan.stage.width
    by_pixel: list[list[Expr]] = [[] for _ in range(PIXELS)]
    for vector in range(plan.vectors):
        for half in range(0, PIXELS, QUAD):
            starts = [(vector * LANES + o) * width + v * PIXELS + half for o in range(LANES)]
            for k, acc in enumerate(transposed(memory.sums, starts)):
                by_pixel[half + k].append(acc)
    staged, place = memory.staged, tile * width + v * PIXELS
    sums = [
        PixelSums((image, *in_registers([staged.rows[place + i], staged.columns[place + i]])), acc)
        for i, acc in enumerate(by_pixel)
    ]
    memory.bound.store(sums, channel, LANES)
