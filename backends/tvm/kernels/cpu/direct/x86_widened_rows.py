"""The rows of input that a thread widens to int16, for some rows of output.

Codes lie in a stage as in memory, row by row. Only where the input of a network stores three
channels in groups of four the stage leaves the fourth out: the taps of a row of the window, which
lie side by side, then count as channels of a single tap. Three taps of three channels take five
steps of two codes instead of six, if all pixels begin at whole steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, DirectTile
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    cast,
    clamped_start,
    load,
    scratch,
    store,
    vector,
)
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import GROUP

WORD_BYTES = 2
STEP = Int16Dot.group  # codes


@dataclass(frozen=True, slots=True)
class WidenedRows:
    """Output rows that a thread computes at once, and the input rows that it widens for them."""

    shape: DirectShape  # of the convolution that reads the stage
    source: Layout
    tile: DirectTile
    rows: int  # of output, a multiple of the tile's unless it is all
    height: int  # rows of input

    @property
    def codes(self) -> int:
        """Codes in memory."""
        return self.height * self.shape.x.row

    @property
    def items(self) -> int:
        """Stages of one image."""
        return -(-self.shape.y.height // self.rows)

    def __str__(self) -> str:
        return f"{self.tile}, {self.rows} rows at once"


def stage_of(shape: DirectShape, source: Layout, tile: DirectTile, rows: int) -> WidenedRows:
    """Return the stage of ``rows`` rows of output; ``shape`` is what ``staged`` returned."""
    height = (rows - 1) * shape.window.stride[0] + shape.window.reach[0]
    return WidenedRows(shape, source, tile, rows, height)


def staged(shape: DirectShape) -> DirectShape:
    """Return the sizes of the convolution that reads stages, which begin with the padding above."""
    x = replace(shape.x, halo=shape.x.halo._replace(top=shape.window.padding.top))
    if not _squeezes(shape):
        return replace(shape, x=x)
    down, across = shape.window.kernel
    inputs = across * x.channels
    x = replace(x, channels=inputs, stored=shape.x.channels)
    if x.row % STEP:
        x = replace(x, halo=x.halo._replace(right=x.halo.right + 1))
    window, depth = replace(shape.window, kernel=(down, 1)), -(-inputs // STEP)
    return replace(shape, x=x, window=window, depth=depth, inputs_per_group=inputs)


def side_by_side(codes: Array, shape: DirectShape) -> Array:
    """Return weights int8 [O, C, kH, kW] as those of the convolution that reads stages."""
    outputs, inputs, down, across = codes.shape
    if shape.window.kernel == (down, across):
        return codes
    return codes.transpose(0, 3, 1, 2).reshape(outputs, across * inputs, down, 1)


def _squeezes(shape: DirectShape) -> bool:
    """Return whether leaving out the padding channels saves steps and leaves whole ones."""
    x, window, across = shape.x, shape.window, shape.window.kernel[1]
    steps = [window.stride[1] * x.channels, (x.halo.left - window.padding.left) * x.channels]
    whole = window.dilation[1] == 1 and not any(codes % STEP for codes in steps)
    fewer = -(-across * x.channels // STEP) < across * shape.depth
    return whole and fewer and x.stored == GROUP and shape.inputs_per_group == x.channels


def widen(stage: WidenedRows, x: Buffer, image: Expr, first: Expr) -> Buffer:
    """Return int32 memory of the input of the output rows from ``first`` on, a step each."""
    shape, source = stage.shape, stage.source
    row = first * shape.window.stride[0] - shape.window.padding.top
    corner = source.origin - source.halo.left * source.stored
    start = corner + image * source.image + row * source.row
    memory = scratch(WORD_BYTES * stage.codes // GROUP + 2 * shape.lanes, "int32")
    if shape.x.stored == source.stored:
        _copy(stage, x, memory, start)
    else:
        _squeeze(stage, x, memory, start)
    return memory


def _copy(stage: WidenedRows, x: Buffer, memory: Buffer, start: Expr) -> None:
    lanes = next(n for n in (2 * stage.shape.lanes, 16, 8, GROUP) if n <= stage.codes)
    with T.serial(0, -(-stage.codes // lanes)) as v:
        place = clamped_start(v, lanes, stage.codes)
        _put(memory, place, load(x, start + place, lanes), lanes)


def _squeeze(stage: WidenedRows, x: Buffer, memory: Buffer, start: Expr) -> None:
    """Leave the padding channels out, four pixels at once; an even column begins a whole step."""
    channels, source = stage.shape.x.stored, stage.source
    columns = source.row // source.stored

    def pixels(row: Expr, column: Expr, count: int) -> None:
        codes = load(x, start + row * source.row + column * GROUP, count * GROUP)
        order = [pixel * GROUP + c for pixel in range(count) for c in range(channels)]
        order += order[-1:] * (len(order) % STEP)
        place = row * stage.shape.x.row + column * channels
        _put(memory, place, T.Shuffle([codes], order), len(order))

    with T.serial(0, stage.height) as row:
        with T.serial(0, columns // GROUP) as group:
            pixels(row, group * GROUP, GROUP)
        for count in (2, 1):
            if columns & count:
                pixels(row, columns // (2 * count) * (2 * count), count)


def _put(memory: Buffer, place: Expr, codes: Expr, lanes: int) -> None:
    pairs = T.reinterpret(vector("int32", lanes // STEP), cast("int16", lanes, codes))
    store(memory, T.floordiv(place, STEP), pairs, lanes // STEP)
