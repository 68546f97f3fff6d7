"""Direct convolution of any shape, and fully connected layers as 1x1 on a 1x1 image.

With codes x, zero point z and weights w the accumulator of output channel o is

    sum over taps of (x - z) * w + bias  =  sum of x * w  +  (bias - z * sum of w),

and the bracket is a constant that starts the accumulator; the padding holds z, so border windows
need no special case.

A tile of ``rows`` x ``columns`` output pixels times ``vectors`` vectors of output channels stays in
registers while the loop runs over the taps and over groups of four input channels. Tiles, and
blocks of output channels, are moved inwards at the end of a range, so that an odd size computes
some pixels twice and needs no remainder code; both writers store the same codes. Where a product is
as fast as VPDPBUSD, some kernels have narrower tiles for the last block instead: 32 vectors are ten
blocks of three and one of two. Its weights and start values follow those of the others, so that it
is a block of the narrower tiles too if these divide all vectors.

Groups: a block of output channels reads the union of its groups' input channels, with zero weights
where a channel belongs to another group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Protocol, TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import (
    ARM_LANES,
    Place,
    Registers,
    TileSums,
    accumulate_lanes,
    accumulate_tile,
    next_block,
    prefetch_small_block,
)
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    best_tiles,
    first_row,
    of_blocks,
    packed_blocks,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import BoundEpilogue, Epilogue
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import Sdot
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    align_stack,
    c_function,
    clamped_start,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.dot import Dot, best_dot, shift_of
from gmpq.backends.tvm.kernels.cpu.isa.prefetch import WeightPrefetch
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving, refuses_dense
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import Conv2d, Linear

MOST_TILES = 8


def candidates(site: Site, most: int = MOST_TILES) -> tuple[Candidate, ...]:
    """Return the ``most`` tiles of the fewest predicted cycles."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Conv2d | Linear)
    dot = best_dot(site.target, max(q.high, q.zero_point), node.weight.codes)
    shape, work = shape_of(site, dot.lanes), site.work(dot.instruction)
    narrower = isinstance(dot, Vpdpbusd)
    found = [
        Candidate(str(tile), cycles, partial(build, site, shape, dot, tile), work)
        for tile, cycles in best_tiles(shape, dot, site.target, most, narrower=narrower)
    ]
    return arriving(site, found, np.dtype(dot.dtype).itemsize)


def build(site: Site, shape: DirectShape, dot: Dot, tile: DirectTile) -> Call:
    """Return the call of one tile."""
    accumulate = accumulate_lanes if isinstance(dot, Sdot) else accumulate_tile
    function = kernel(shape, dot, tile, epilogue_of(site), accumulate)
    return site.call(function, constants(site, shape, dot, tile))


FAMILY = Family("direct", (Conv2d, Linear), candidates, refuses_dense)


# --- the code ------------------------------------------------------------------------------------

Accumulate: TypeAlias = Callable[[TileSums], Registers]
TableParameter: TypeAlias = tuple[str, str, int]  # name, element type, elements


@dataclass(frozen=True, slots=True)
class WeightTables:
    """The constants of a layer whose steps are listed in tables.

    ``steps`` counts the steps with weights; None: each tap and group of channels of each block.
    """

    more: tuple[TableParameter, ...] = ()
    steps: int | None = None


DENSE = WeightTables()


class Weights(Protocol):
    """How weights lie in memory."""

    @property
    def dtype(self) -> str:
        """Type of a weight."""

    @property
    def vectors(self) -> int:
        """Vectors of weights of a step, per vector of outputs."""

    @property
    def elements(self) -> int:
        """Weights of a vector."""


def kernel(
    shape: DirectShape,
    dot: Weights,
    tile: DirectTile,
    epilogue: Epilogue,
    accumulate: Accumulate,
    constants: WeightTables = DENSE,
) -> PrimFunc:
    """Return ``f(x, [residual], weights, start, factor, [more], outputs)``."""
    more = constants.more
    blocks = -(-shape.vectors // tile.vectors)
    size = (constants.steps or blocks * shape.steps) * tile.vectors * dot.vectors * dot.elements
    block_size, missing = size // blocks, tile.vectors - tile.narrower if tile.narrower else 0
    row_tiles = shape.x.batch * -(-shape.y.height // tile.rows)
    tiles = row_tiles * -(-shape.y.width // tile.columns)

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, factor_, *more_), arguments = epilogue.split(others)
        x = view(x_, "int32", shape.x.size_bytes // GROUP)
        w = view(w_, dot.dtype, size - missing * shape.steps * dot.vectors * dot.elements)
        start = view(start_, "int32", (blocks * tile.vectors - missing) * shape.lanes)
        bound = arguments.bind(factor_, shape.vectors * shape.lanes)
        tables = tuple(view(p, kind, n) for p, (_, kind, n) in zip(more_, more, strict=True))
        layer = Layer(shape, dot, accumulate, x, w, start, tables, bound)
        with T.parallel(0, blocks * row_tiles) as item:
            if shape.lanes > ARM_LANES:
                align_stack()
                prefetch_small_block(tile, w, block_size, row_tiles, item)
            row_tile, block = _item(tile, item, row_tiles, blocks)
            ahead = next_block(shape, tile, w, (block_size, tiles), block)
            if tile.narrower:
                _compute_either_row(layer, tile, (row_tile, block), ahead)
            else:
                _compute_row(layer, tile, (row_tile, block), ahead)

    constant = (("w", dot.dtype), ("start", "int32"), ("factor", "float32"))
    names = (*constant, *(table[:2] for table in more))
    return c_function(epilogue.parameters(("x", "int32"), names), body)


@dataclass(frozen=True, slots=True)
class Layer:
    """What all tiles of a kernel share."""

    shape: DirectShape
    dot: Weights
    accumulate: Accumulate
    x: Buffer
    w: Buffer
    start: Buffer
    tables: tuple[Buffer, ...]
    bound: BoundEpilogue


def _compute_either_row(
    layer: Layer, tile: DirectTile, at: tuple[Expr, Expr], ahead: WeightPrefetch | None
) -> None:
    """Compute a row of tiles of a block, narrower ones of the last block."""
    (row_tile, block), vectors = at, layer.shape.vectors
    with T.If(block < vectors // tile.vectors):
        with T.Then():
            _compute_row(layer, tile, at, ahead)
        with T.Else():
            _compute_row(layer, tile.last, (row_tile, vectors // tile.narrower - 1), None)


def _compute_row(
    layer: Layer, tile: DirectTile, at: tuple[Expr, Expr], ahead: WeightPrefetch | None
) -> None:
    """Compute a row of tiles of a block; ``at`` is the number of each."""
    shape, (row_tile, block) = layer.shape, at
    image, row = first_row(shape, tile, row_tile)
    vector = clamped_start(block, tile.vectors, shape.vectors)
    across = -(-shape.y.width // tile.columns)
    with T.serial(0, across) as column_tile:
        column = clamped_start(column_tile, tile.columns, shape.y.width)
        place = Place(image, row, column, block, vector, row_tile * across + column_tile)
        memory = (layer.x, layer.w, layer.start, layer.tables)
        acc = layer.accumulate(TileSums(shape, layer.dot, tile, place, *memory, ahead))
        store_tile(shape, tile, place, acc, layer.bound)


def _item(tile: DirectTile, item: Expr, row_tiles: int, blocks: int) -> tuple[Expr, Expr]:
    """Return the row of tiles and the block of one item of the loop."""
    if tile.blocks_outside:
        return item % row_tiles, item // row_tiles
    return item // blocks, item % blocks


def store_tile(
    shape: DirectShape, tile: DirectTile, place: Place, acc: Registers, bound: BoundEpilogue
) -> None:
    """Requantize and store the accumulators of a tile."""
    pixels = product(range(tile.rows), range(tile.columns))
    sums = [
        PixelSums(
            (place.image, place.row + row, place.column + column), [slot[0] for slot in slots]
        )
        for (row, column), slots in zip(pixels, acc, strict=True)
    ]
    bound.store(sums, place.vector * shape.lanes, shape.lanes)


# --- the constants -------------------------------------------------------------------------------


def constants(
    site: Site, shape: DirectShape, dot: Dot, tile: DirectTile
) -> tuple[Array, Array, Array]:
    """Return packed weights, start values and factors of a tile.

    The weights are those of ``blocked`` as ``dot.pack`` lays them out, the start values int32
    [blocks, vectors * lanes] and the factors float32 [vectors * lanes] of all outputs.
    """
    assert isinstance(site.node, Conv2d | Linear)
    packed = packed_blocks(site.node.weight.codes, shape, dot, tile)
    return constants_of(site, shape, tile, packed, shift_of(dot))


def constants_of(
    site: Site, shape: DirectShape, tile: DirectTile, packed: Array, shift: int = 0
) -> tuple[Array, Array, Array]:
    """Return ``packed`` weights with the start values of blocks, and the factors of all outputs.

    Start values are int32 [blocks, vectors * lanes], for codes that come less ``shift``; factors
    float32 [vectors * lanes].
    """
    assert isinstance(site.node, Conv2d | Linear)
    weight = site.node.weight
    start, factor = start_and_factor(weight, site.inputs[0].q, site.output.value.q)
    if shift:  # modulo 2**32, as the accumulator
        sums = weight.codes.reshape(len(start), -1).sum(axis=1, dtype=np.int64)
        start = (start + shift * sums).astype(np.int32)
    padded = shape.vectors * shape.lanes
    return packed, of_blocks(_pad(start, padded), shape, tile), _pad(factor, padded)


def _pad(values: Array, length: int) -> Array:
    return np.pad(values, (0, length - len(values)))
