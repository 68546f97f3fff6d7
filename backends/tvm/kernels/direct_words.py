"""Direct convolution of many bits without VNNI: input rows are widened to int16 once, then reused.

Where a pair of products u8 * s8 does not fit int16, vpmaddwd multiplies int16 codes and weights.
``direct`` widens the codes in registers for every tile. Here a thread first widens the input rows
of some output rows into memory that stays in its cache, and all blocks of output channels read them
from there: a step is a broadcast load, a multiplication and an addition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.dot import Wide, Words, best_dot, multiplied_lanes
from gmpq.backends.tvm.epilogue import Finish
from gmpq.backends.tvm.kernels.base import (
    Call,
    Candidate,
    Family,
    Site,
    arriving,
    streamed_cycles,
)
from gmpq.backends.tvm.kernels.direct import constants, finish_tile
from gmpq.backends.tvm.kernels.direct_sums import Place, Sums, accumulate_tile
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, best_tiles, shape_of
from gmpq.backends.tvm.layout import GROUP, Layout
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    cast,
    inwards,
    load,
    scratch,
    store,
    vector,
    view,
)
from gmpq.ir import Conv2d

MOST_TILES = 6
STAGE_BYTES = 128 << 10  # on the stack of a thread
WORD_BYTES = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """Output rows that a thread computes at once, and the input rows that it widens for them."""

    tile: Tile
    rows: int  # of output, a multiple of the tile's unless it is all
    height: int  # rows of input
    pitch: int  # codes of one row of input

    @property
    def codes(self) -> int:
        """Codes in memory."""
        return self.height * self.pitch

    def __str__(self) -> str:
        return f"{self.tile}, {self.rows} rows at once"


def stage_of(shape: Shape, tile: Tile, rows: int) -> Stage:
    """Return the stage of ``rows`` rows of output."""
    height = (rows - 1) * shape.window.stride[0] + shape.window.reach[0]
    return Stage(tile, rows, height, shape.x.row)


def stages(shape: Shape, tile: Tile) -> list[Stage]:
    """Return the stages that fit the memory and leave work for two threads."""
    most = max(tile.rows, -(-shape.y.height // 2))
    found = (stage_of(shape, tile, rows) for rows in range(tile.rows, most + 1, tile.rows))
    return [stage for stage in found if WORD_BYTES * stage.codes <= STAGE_BYTES]


def refuses(site: Site) -> str | None:
    """Return why the site is not for int16 codes."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Conv2d)
    if not isinstance(best_dot(site.target, max(q.high, q.zero_point), node.weight.codes), Wide):
        return "bytes multiply exactly, or there is no vpmaddwd"
    if node.groups > 1:
        return "needs one group"
    least = stage_of(_shape(site), Tile(1, 1, 1, blocks_outside=False), 1)
    if WORD_BYTES * least.codes <= STAGE_BYTES:
        return None
    return f"one row of output needs more than {STAGE_BYTES >> 10} KiB of input"


def _dot(site: Site) -> Words:
    lanes = multiplied_lanes(site.target)
    assert lanes is not None
    return Words(lanes)


def _shape(site: Site) -> Shape:
    dot = _dot(site)
    shape = shape_of(site, dot.lanes)
    return replace(shape, depth=-(-shape.x.channels // dot.group), group=dot.group)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles, each with its best number of rows."""
    shape, dot = _shape(site), _dot(site)
    found = [
        Candidate(
            str(stage),
            _cycles(site, shape, stage, direct),
            partial(build, site, shape, dot, stage),
            site.work(dot.instruction),
        )
        for tile, direct in best_tiles(shape, dot, site.target, MOST_TILES)
        for stage in stages(shape, tile)
    ]
    found.sort(key=lambda candidate: candidate.cycles)
    return arriving(site, found[:MOST_TILES], WORD_BYTES)


def _cycles(site: Site, shape: Shape, stage: Stage, direct: float) -> float:
    """Return predicted cycles; ``direct`` are those of the tile alone.

    To them come rows that are computed twice, widening, and reading the weights again.
    """
    items, rows = -(-shape.y.height // stage.rows), stage.tile.rows
    twice = items * stage.rows / (-(-shape.y.height // rows) * rows)
    taps = shape.window.kernel[0] * shape.window.kernel[1]
    weights = WORD_BYTES * taps * shape.depth * shape.group * shape.vectors * shape.lanes
    again = weights if weights > site.target.cache_bytes else 0
    copied = WORD_BYTES * stage.codes / (4 * shape.lanes) * 1.5
    parts = shape.x.batch * items
    return direct * twice + parts * copied + (parts - 1) * streamed_cycles(site, again)


FAMILY = Family("direct_words", (Conv2d,), candidates, refuses)


def build(site: Site, shape: Shape, dot: Words, stage: Stage) -> Call:
    """Return the call of one stage."""
    function = kernel(shape, dot, stage, site.finish)
    return site.call(function, constants(site, shape, dot, stage.tile))


# --- the code ------------------------------------------------------------------------------------


def kernel(shape: Shape, dot: Words, stage: Stage, finish: Finish) -> PrimFunc:
    """Return ``f(x, [residual], weights, start, factor, outputs)``."""
    tile, y, items = stage.tile, shape.y, -(-shape.y.height // stage.rows)
    blocks = -(-shape.vectors // tile.vectors)
    steps = blocks * shape.window.kernel[0] * shape.window.kernel[1] * shape.depth
    staged = replace(shape, x=_staged_layout(shape))

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, factor_), ends = finish.split(others)
        x = view(x_, "uint8", shape.x.size_bytes)
        w = view(w_, dot.dtype, steps * tile.vectors * dot.elements)
        start = view(start_, "int32", blocks * tile.vectors * shape.lanes)
        end = ends.bind(factor_, shape.vectors * shape.lanes)
        with T.parallel(0, shape.x.batch * items) as item:
            image, first = item // items, inwards(item % items, stage.rows, y.height)
            memory = scratch(WORD_BYTES * stage.codes // GROUP + 2 * shape.lanes, "int32")
            _widen(shape, stage, x, memory, (image, first))
            with T.serial(0, blocks) as block:
                channel = inwards(block, tile.vectors, shape.vectors)
                with T.grid(stage.rows // tile.rows, -(-y.width // tile.columns)) as (r, c):
                    row, column = r * tile.rows, inwards(c, tile.columns, y.width)
                    there = Place(0, row, column, block, channel)
                    acc = accumulate_tile(Sums(staged, dot, tile, there, memory, w, start))
                    here = Place(image, first + row, column, block, channel)
                    finish_tile(shape, tile, here, acc, end)

    constant = (("w", dot.dtype), ("start", "int32"), ("factor", "float32"))
    return c_function(finish.parameters(("x", "uint8"), constant), body)


def _staged_layout(shape: Shape) -> Layout:
    """Return the layout of the widened rows, which begin with the padding above."""
    return replace(shape.x, halo=shape.x.halo._replace(top=shape.window.padding.top))


def _widen(shape: Shape, stage: Stage, x: Buffer, memory: Buffer, at: tuple[Expr, Expr]) -> None:
    """Write the input of the output rows from ``first`` of an image on as int16."""
    layout, window, (image, first) = shape.x, shape.window, at
    row = first * window.stride[0] - window.padding.top
    corner = layout.origin - layout.halo.left * layout.stored
    start = corner + image * layout.image + row * layout.row
    lanes = next(n for n in (2 * shape.lanes, 16, 8, GROUP) if n <= stage.codes)
    with T.serial(0, -(-stage.codes // lanes)) as v:
        place = inwards(v, lanes, stage.codes)
        words = cast("int16", lanes, load(x, start + place, lanes))
        pairs = T.reinterpret(vector("int32", lanes // 2), words)
        store(memory, T.floordiv(place, 2), pairs, lanes // 2)
