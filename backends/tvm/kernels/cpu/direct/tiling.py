"""How a direct convolution is cut into tiles, and how its weights are laid out for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import LANES as SDOT_LANES
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import Sdot
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, clamped_start
from gmpq.backends.tvm.kernels.cpu.isa.dot import Dot
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import GROUP, CpuTarget
from gmpq.backends.tvm.target.pipeline import pipeline_of
from gmpq.ir import Conv2d, Linear, Window


@dataclass(frozen=True, slots=True)
class DirectTile:
    """What stays in registers: output pixels times vectors of output channels."""

    rows: int
    columns: int
    vectors: int
    blocks_outside: bool  # walk all pixels for one block of channels, or the other way round
    narrower: int = 0  # vectors of the last block, where it is not as wide as the others

    @property
    def last(self) -> DirectTile:
        """The tiles of a narrower last block."""
        return replace(self, vectors=self.narrower, narrower=0)

    @property
    def pixels(self) -> int:
        """Output pixels of the tile."""
        return self.rows * self.columns

    def __str__(self) -> str:
        order = "blocks" if self.blocks_outside else "rows"
        text = f"{self.rows}x{self.columns} pixels x {self.vectors} vectors"
        once = f", {self.narrower} at the end" if self.narrower else ""
        return f"{text}{once}, {order} outside"


@dataclass(frozen=True, slots=True)
class DirectShape:
    """Sizes that the loops run over."""

    window: Window
    x: Layout
    y: Layout
    depth: int  # groups of input channels that one block reads
    inputs_per_group: int
    outputs_per_group: int
    lanes: int
    group: int = GROUP  # input channels that one step multiplies

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return -(-self.y.channels // self.lanes)

    @property
    def steps(self) -> int:
        """Steps of an output: ``group`` input channels of a tap each."""
        return self.window.kernel[0] * self.window.kernel[1] * self.depth

    @property
    def contiguous_taps(self) -> bool:
        """Return whether the codes that a row of taps reads lie side by side."""
        return self.window.dilation[1] == 1 and self.depth * self.group == self.x.stored

    def first_channel(self, block_channel: Expr) -> Expr:
        """Return the first input channel read by the block that starts at ``block_channel``."""
        if self.inputs_per_group >= self.x.channels:
            return 0
        group = block_channel // self.outputs_per_group
        start = group * self.inputs_per_group // GROUP * GROUP
        last = self.x.stored - self.depth * self.group
        return min(start, last) if isinstance(block_channel, int) else T.min(start, last)


def shape_of(site: Site, lanes: int) -> DirectShape:
    """Return the loop sizes of a convolution or a fully connected layer."""
    node, x, y = site.node, site.inputs[0].codes, site.output.codes
    assert isinstance(node, Conv2d | Linear)
    if isinstance(node, Linear):
        return DirectShape(
            Window((1, 1)), x, y, -(-x.channels // GROUP), x.channels, y.channels, lanes
        )
    inputs, outputs = x.channels // node.groups, y.channels // node.groups
    depth = _depth(x, inputs, outputs, lanes) if node.groups > 1 else -(-x.channels // GROUP)
    return DirectShape(node.window, x, y, depth, inputs, outputs, lanes)


def _depth(x: Layout, inputs: int, outputs: int, lanes: int) -> int:
    """Return the groups of four channels that cover the union of any vector's input groups."""
    spans = [
        (
            c // outputs * inputs // GROUP * GROUP,
            min((c + lanes - 1) // outputs * inputs + inputs, x.channels),
        )
        for c in range(0, x.channels // inputs * outputs, lanes)
    ]
    return min(max(-(-(end - start) // GROUP) for start, end in spans), x.stored // GROUP)


def best_tiles(
    shape: DirectShape,
    dot: Dot,
    target: CpuTarget,
    most: int,
    vectors: int | None = None,
    *,
    narrower: bool = False,
) -> list[tuple[DirectTile, float]]:
    """Return the tiles that fit the registers with the fewest predicted cycles, best first.

    Among equals of ``Sdot``, squares come first: processors in order take them a little faster. All
    have ``vectors`` vectors, if it is given; ``narrower`` adds those with a narrower last block.
    """
    spare = target.vector_registers - dot.temporaries
    codes = 1 if isinstance(dot, Sdot) else 0  # registers of a pixel (``accumulate_lanes``)
    item = np.dtype(dot.dtype).itemsize * dot.elements * dot.vectors
    weights = shape.vectors * shape.steps * item
    grouped = shape.inputs_per_group < shape.x.channels
    widest = 1 if grouped else min(4, shape.vectors)
    tiles = [
        DirectTile(rows, columns, wide, blocks_outside(shape, weights, rows, wide, target))
        for rows, columns, wide in product(
            range(1, min(4, shape.y.height) + 1),
            range(1, min(28, shape.y.width) + 1),
            range(1, widest + 1) if vectors is None else (vectors,),
        )
        if rows * columns * (wide + codes) + wide * dot.vectors <= spare
    ]
    if narrower:
        tiles += [narrow for tile in tiles if (narrow := _with_narrower(shape, tile)) is not None]
    timed = [(tile, _cycles(shape, dot, tile, target)) for tile in tiles]
    return sorted(timed, key=lambda t: (t[1], codes * abs(t[0].rows - t[0].columns)))[:most]


def _with_narrower(shape: DirectShape, tile: DirectTile) -> DirectTile | None:
    """Return ``tile`` with a narrower last block, which must begin at a multiple of its width."""
    rest = shape.vectors % tile.vectors
    if tile.vectors > shape.vectors or not rest or shape.vectors % rest:
        return None
    return replace(tile, narrower=rest)


def _cycles(shape: DirectShape, dot: Dot, tile: DirectTile, target: CpuTarget) -> float:
    """Return predicted cycles of all blocks."""
    each = _block_cycles(shape, dot, tile, target)
    if tile.narrower:
        last = _block_cycles(shape, dot, tile.last, target)
        return shape.vectors // tile.vectors * each + last
    return -(-shape.vectors // tile.vectors) * each


def _block_cycles(shape: DirectShape, dot: Dot, tile: DirectTile, target: CpuTarget) -> float:
    """Return predicted cycles: products and operands, or two loads a cycle.

    A vector of weights that comes from the second-level cache takes as long as two loads.
    """
    pixels = tile.rows * tile.columns
    tiles = -(-shape.y.height // tile.rows) * -(-shape.y.width // tile.columns)
    pipeline = pipeline_of(target)
    steps_of_load = _steps_of_load(shape) if isinstance(dot, Sdot) else 1.0
    one = tile.vectors * dot.product_cycles + dot.operand_cycles / steps_of_load
    multiplications = pipeline.slower * pixels * one
    vectors = tile.vectors * dot.vectors
    size = np.dtype(dot.dtype).itemsize * dot.elements * vectors * shape.steps
    loads = pixels / steps_of_load + vectors * (2 if size > target.l1d_bytes // 2 else 1)
    epilogue = 5 * pixels * tile.vectors + 10
    step = pipeline.waiting * pipeline.step(multiplications, loads)
    return shape.x.batch * tiles * (shape.steps * step + epilogue)


def _steps_of_load(shape: DirectShape) -> float:
    """Return how many steps of ``arm_dot.add_by_lanes`` a load of codes serves, of at most four."""
    length = shape.depth * (shape.window.kernel[1] if shape.contiguous_taps else 1)
    return length / -(-length // SDOT_LANES)


def blocks_outside(
    shape: DirectShape, weights: int, rows: int, vectors: int, target: CpuTarget
) -> bool:
    """Return whether all pixels per block read fewer bytes than all ``weights`` per row.

    An image that stays in the first-level cache may be read again, and one in the second-level
    cache rather than weights that do not fit there: these come from memory every time.
    """
    image = shape.x.image
    if image <= target.l1d_bytes // 2:
        return True
    if weights < target.l2_bytes // 4:
        return False
    if image <= target.l2_bytes // 2 < weights:
        return True
    row_tiles = -(-shape.y.height // rows)
    blocks = -(-shape.vectors // vectors)
    return blocks * image + weights < row_tiles * weights + image


def first_row(shape: DirectShape, tile: DirectTile, number: Expr) -> tuple[Expr, Expr]:
    """Return the image and the first row of a row of tiles, counted over all images."""
    tiles = -(-shape.y.height // tile.rows)
    return number // tiles, clamped_start(number % tiles, tile.rows, shape.y.height)


def blocked(codes: Array, shape: DirectShape, tile: DirectTile) -> Array:
    """Return int8 [blocks, kH, kW, depth, vectors, lanes, 4] of weights [O, I / groups, kH, kW].

    ``depth`` counts groups of four input channels; what no channel or output fills is zero.
    """
    kernel_rows, kernel_columns = shape.window.kernel
    outputs = len(codes)
    taps = codes.reshape(outputs, -1, kernel_rows, kernel_columns).transpose(0, 2, 3, 1)
    width = tile.vectors * shape.lanes
    blocks = -(-shape.vectors // tile.vectors)
    packed = np.zeros(
        (blocks, width, kernel_rows, kernel_columns, shape.depth * shape.group), np.int8
    )
    for block, lane in product(range(blocks), range(width)):
        first = min(block * tile.vectors, shape.vectors - tile.vectors) * shape.lanes
        output = first + lane
        if output < outputs:
            group = output // shape.outputs_per_group
            channel = group * shape.inputs_per_group - shape.first_channel(first)
            packed[block, lane, :, :, channel : channel + taps.shape[3]] = taps[output]
    split = packed.reshape(
        blocks, tile.vectors, shape.lanes, kernel_rows, kernel_columns, shape.depth, shape.group
    )
    return np.ascontiguousarray(split.transpose(0, 3, 4, 5, 1, 2, 6))


def packed_blocks(codes: Array, shape: DirectShape, dot: Dot, tile: DirectTile) -> Array:
    """Return what ``dot.pack`` makes of ``blocked`` weights [O, I / groups, kH, kW].

    Those of a narrower last block follow the others: then the array is flat.
    """
    packed = dot.pack(blocked(codes, shape, tile))
    if not tile.narrower:
        return packed
    last = dot.pack(blocked(codes, shape, tile.last))[-1]
    return np.concatenate([packed[:-1].reshape(-1), last.reshape(-1)])


def of_blocks(values: Array, shape: DirectShape, tile: DirectTile) -> Array:
    """Return the values [blocks, vectors * lanes] of each block of all outputs' [vectors * lanes].

    Their type stays. The last block is moved inwards, as in ``blocked``; a narrower one is not, so
    that all values are returned as they lie.
    """
    if tile.narrower:
        return values
    firsts = np.arange(0, shape.vectors, tile.vectors)
    vectors = np.minimum(firsts, shape.vectors - tile.vectors)[:, None] + np.arange(tile.vectors)
    return values.reshape(shape.vectors, shape.lanes)[vectors].reshape(len(firsts), -1)
