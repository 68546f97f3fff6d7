"""Direct convolution that first copies the input rows of some output rows, in a form of its own.

A thread writes the rows into memory that stays in its cache, and all blocks of output channels read
them from there. What the form is, a ``Form`` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.dot import Dot
from gmpq.backends.tvm.epilogue import Finish
from gmpq.backends.tvm.kernels.base import Site, streamed_cycles
from gmpq.backends.tvm.kernels.direct import Accumulate, Parameter, Place, Sums, finish_tile
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile
from gmpq.backends.tvm.layout import GROUP, Layout
from gmpq.backends.tvm.script import Buffer, Expr, c_function, inwards, load, scratch, view

STAGE_BYTES = 128 << 10  # on the stack of a thread


@dataclass(frozen=True, slots=True)
class Stage:
    """Output rows that a thread computes at once, and the input rows that it copies for them."""

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


@dataclass(frozen=True, slots=True)
class Form:
    """How codes are copied: the bytes that one takes, and the code that writes some of them.

    ``write(stage, memory, place, codes, lanes)`` gets ``lanes`` codes at ``place`` of the stage.
    """

    code_bytes: int
    write: Callable[[Stage, Buffer, Expr, Expr, int], None]


def stage_of(shape: Shape, tile: Tile, rows: int) -> Stage:
    """Return the stage of ``rows`` rows of output."""
    height = (rows - 1) * shape.window.stride[0] + shape.window.reach[0]
    return Stage(tile, rows, height, shape.x.row)


def refuses(shape: Shape, form: Form) -> str | None:
    """Return why not even one row fits."""
    least = stage_of(shape, Tile(1, 1, 1, blocks_outside=False), 1)
    if form.code_bytes * least.codes <= STAGE_BYTES:
        return None
    return f"one row of output needs more than {STAGE_BYTES >> 10} KiB of input"


def stages(shape: Shape, tile: Tile, form: Form) -> list[Stage]:
    """Return the stages that fit the memory and leave work for two threads."""
    most = max(tile.rows, -(-shape.y.height // 2))
    found = (stage_of(shape, tile, rows) for rows in range(tile.rows, most + 1, tile.rows))
    return [stage for stage in found if form.code_bytes * stage.codes <= STAGE_BYTES]


def cycles(site: Site, shape: Shape, stage: Stage, form: Form, direct: float) -> float:
    """Return predicted cycles; ``direct`` are those of the tile alone.

    To them come rows that are computed twice, copying, and reading the weights for every stage.
    """
    items, rows = -(-shape.y.height // stage.rows), stage.tile.rows
    twice = items * stage.rows / (-(-shape.y.height // rows) * rows)
    taps = shape.window.kernel[0] * shape.window.kernel[1]
    item_bytes = GROUP // shape.group  # of a weight
    weights = item_bytes * taps * shape.depth * shape.group * shape.vectors * shape.lanes
    again = weights if weights > site.target.cache_bytes else 0
    copied = form.code_bytes * stage.codes / (4 * shape.lanes) * 1.5
    return direct * twice + shape.x.batch * items * (copied + streamed_cycles(site, again))


def kernel(
    shape: Shape,
    dot: Dot,
    stage: Stage,
    form: Form,
    finish: Finish,
    accumulate: Accumulate,
    more: tuple[Parameter, ...] = (),
) -> PrimFunc:
    """Return ``f(x, [residual], weights, start, factor, [more], outputs)``."""
    tile, y, items = stage.tile, shape.y, -(-shape.y.height // stage.rows)
    blocks = -(-shape.vectors // tile.vectors)
    steps = blocks * shape.window.kernel[0] * shape.window.kernel[1] * shape.depth
    staged = replace(shape, x=_staged_layout(shape))

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, factor_, *more_), ends = finish.split(others)
        x = view(x_, "uint8", shape.x.size_bytes)
        w = view(w_, dot.dtype, steps * tile.vectors * dot.elements)
        start = view(start_, "int32", shape.vectors * shape.lanes)
        end = ends.bind(factor_, shape.vectors * shape.lanes)
        tables = tuple(view(p, kind, n) for p, (_, kind, n) in zip(more_, more, strict=True))
        with T.parallel(0, shape.x.batch * items) as item:
            image, first = item // items, inwards(item % items, stage.rows, y.height)
            memory = scratch(form.code_bytes * stage.codes // GROUP + 2 * shape.lanes, "int32")
            _copy(shape, stage, form, x, memory, (image, first))
            with T.serial(0, blocks) as block:
                channel = inwards(block, tile.vectors, shape.vectors)
                with T.grid(stage.rows // tile.rows, -(-y.width // tile.columns)) as (r, c):
                    row, column = r * tile.rows, inwards(c, tile.columns, y.width)
                    there = Place(0, row, column, block, channel)
                    acc = accumulate(Sums(staged, dot, tile, there, memory, w, start, tables))
                    here = Place(image, first + row, column, block, channel)
                    finish_tile(shape, tile, here, acc, end)

    constant = (("w", dot.dtype), ("start", "int32"), ("factor", "float32"))
    names = (*constant, *((name, kind) for name, kind, _ in more))
    return c_function(finish.parameters(("x", "uint8"), names), body)


def _staged_layout(shape: Shape) -> Layout:
    """Return the layout of the copied rows, which begin with the padding above."""
    return replace(shape.x, halo=shape.x.halo._replace(top=shape.window.padding.top))


def _copy(
    shape: Shape, stage: Stage, form: Form, x: Buffer, memory: Buffer, at: tuple[Expr, Expr]
) -> None:
    """Write the input of the output rows from ``first`` of an image on."""
    layout, window, (image, first) = shape.x, shape.window, at
    row = first * window.stride[0] - window.padding.top
    corner = layout.origin - layout.halo.left * layout.stored
    start = corner + image * layout.image + row * layout.row
    lanes = next(n for n in (2 * shape.lanes, 16, 8, GROUP) if n <= stage.codes)
    with T.serial(0, -(-stage.codes // lanes)) as v:
        place = inwards(v, lanes, stage.codes)
        form.write(stage, memory, place, load(x, start + place, lanes), lanes)
