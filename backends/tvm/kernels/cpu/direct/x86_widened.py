"""Direct convolution of many bits without VNNI: input rows are widened to int16 once, then reused.

Where a pair of products u8 * s8 does not fit int16, vpmaddwd (Intel SDM, VPMADDWD) multiplies int16
codes and weights. ``direct`` widens the codes in registers for every tile. Here a thread first
widens the input rows of some output rows into memory that stays in its cache, and all blocks of
output channels read them from there: a step is a broadcast load, a multiplication and an addition.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Place, TileSums, accumulate_tile
from gmpq.backends.tvm.kernels.cpu.direct.direct import constants_of, store_tile
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    best_tiles,
    blocked,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.direct.x86_widened_rows import (
    WORD_BYTES,
    WidenedRows,
    side_by_side,
    stage_of,
    staged,
    widen,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import Epilogue
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, c_function, clamped_start, view
from gmpq.backends.tvm.kernels.cpu.isa.dot import best_dot
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving, streamed_cycles
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, Vpmaddwd, vpmaddubsw_lanes
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import Conv2d

MOST_TILES = 6
STAGE_BYTES = 128 << 10  # on the stack of a thread


def stages(shape: DirectShape, source: Layout, tile: DirectTile) -> list[WidenedRows]:
    """Return the stages that fit the memory and leave work for two threads, rows outside."""
    most = max(tile.rows, -(-shape.y.height // 2))
    rows, tile = range(tile.rows, most + 1, tile.rows), replace(tile, blocks_outside=False)
    found = (stage_of(shape, source, tile, count) for count in rows)
    return [stage for stage in found if WORD_BYTES * stage.codes <= STAGE_BYTES]


def refuses(site: Site) -> str | None:
    """Return why the site is not for int16 codes."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Conv2d)
    if not isinstance(
        best_dot(site.target, max(q.high, q.zero_point), node.weight.codes), Vpmaddwd
    ):
        return "bytes multiply exactly, or there is no vpmaddwd"
    if node.groups > 1:
        return "needs one group"
    tile = DirectTile(1, 1, 1, blocks_outside=False)
    least = stage_of(_shape(site), site.inputs[0].codes, tile, 1)
    if WORD_BYTES * least.codes <= STAGE_BYTES:
        return None
    return f"one row of output needs more than {STAGE_BYTES >> 10} KiB of input"


def _dot(site: Site) -> Int16Dot:
    lanes = vpmaddubsw_lanes(site.target)
    assert lanes is not None
    return Int16Dot(lanes)


def _shape(site: Site) -> DirectShape:
    dot = _dot(site)
    shape = shape_of(site, dot.lanes)
    return staged(replace(shape, depth=-(-shape.x.channels // dot.group), group=dot.group))


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles, each with its best number of rows."""
    shape, dot = _shape(site), _dot(site)
    found = [
        Candidate(
            str(stage),
            _cycles(site, stage, direct),
            partial(build, site, dot, stage),
            site.work(dot.instruction),
            shape.x.batch * stage.items,
        )
        for tile, direct in best_tiles(shape, dot, site.target, MOST_TILES)
        for stage in stages(shape, site.inputs[0].codes, tile)
    ]
    found.sort(key=lambda candidate: candidate.cost)
    return arriving(site, found[:MOST_TILES], WORD_BYTES)


def _cycles(site: Site, stage: WidenedRows, direct: float) -> float:
    """Return predicted cycles; ``direct`` are those of the tile alone.

    To them come rows that are computed twice, widening, and reading the weights again.
    """
    shape, rows = stage.shape, stage.tile.rows
    items = stage.items
    twice = items * stage.rows / (-(-shape.y.height // rows) * rows)
    weights = WORD_BYTES * shape.steps * shape.group * shape.vectors * shape.lanes
    again = weights if weights > site.target.l2_bytes else 0
    copied = WORD_BYTES * stage.codes / (4 * shape.lanes) * 1.5
    parts = shape.x.batch * items
    return direct * twice + parts * copied + (parts - 1) * streamed_cycles(site, again)


FAMILY = Family("direct_words", (Conv2d,), candidates, refuses)


def build(site: Site, dot: Int16Dot, stage: WidenedRows) -> Call:
    """Return the call of one stage."""
    assert isinstance(site.node, Conv2d)
    shape, tile = stage.shape, stage.tile
    weights = dot.pack(blocked(side_by_side(site.node.weight.codes, shape), shape, tile))
    function = kernel(dot, stage, epilogue_of(site))
    return site.call(function, constants_of(site, shape, tile, weights))


# --- the code ------------------------------------------------------------------------------------


def kernel(dot: Int16Dot, stage: WidenedRows, epilogue: Epilogue) -> PrimFunc:
    """Return ``f(x, [residual], weights, start, factor, outputs)``."""
    shape, tile, y = stage.shape, stage.tile, stage.shape.y
    items, blocks = stage.items, -(-shape.vectors // tile.vectors)
    steps = blocks * shape.steps

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, factor_), arguments = epilogue.split(others)
        x = view(x_, "uint8", stage.source.size_bytes)
        w = view(w_, dot.dtype, steps * tile.vectors * dot.elements)
        start = view(start_, "int32", blocks * tile.vectors * shape.lanes)
        bound = arguments.bind(factor_, shape.vectors * shape.lanes)
        with T.parallel(0, shape.x.batch * items) as item:
            image, first = item // items, clamped_start(item % items, stage.rows, y.height)
            memory = widen(stage, x, image, first)
            with T.serial(0, blocks) as block:
                channel = clamped_start(block, tile.vectors, shape.vectors)
                with T.grid(stage.rows // tile.rows, -(-y.width // tile.columns)) as (r, c):
                    row, column = r * tile.rows, clamped_start(c, tile.columns, y.width)
                    there = Place(0, row, column, block, channel)
                    acc = accumulate_tile(TileSums(shape, dot, tile, there, memory, w, start))
                    here = Place(image, first + row, column, block, channel)
                    store_tile(shape, tile, here, acc, bound)

    constant = (("w", dot.dtype), ("start", "int32"), ("factor", "float32"))
    return c_function(epilogue.parameters(("x", "uint8"), constant), body)
