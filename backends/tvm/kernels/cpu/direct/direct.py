"""Direct convolution of any shape, and fully connected layers as 1x1 on a 1x1 image.

With codes x, zero point z and weights w the accumulator of output channel o is

    sum over taps of (x - z) * w + bias  =  sum of x * w  +  (bias - z * sum of w),

and the bracket is a constant that starts the accumulator; the padding holds z, so border windows
need no special case.

A tile of ``rows`` x ``columns`` output pixels times ``vectors`` vectors of output channels stays in
registers while the loop runs over the taps and over groups of four input channels. Tiles, and
blocks of output channels, are moved inwards at the end of a range, so that an odd size computes
some pixels twice and needs no remainder code; both writers store the same codes.

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
    Place,
    Registers,
    TileSums,
    accumulate_lanes,
    accumulate_tile,
)
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    best_tiles,
    blocked,
    of_blocks,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import BoundEpilogue, Epilogue
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import start_and_factor
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import Sdot
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    LINE,
    Buffer,
    Expr,
    align_stack,
    c_function,
    clamped_start,
    prefetch,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.dot import Dot, best_dot, shift_of
from gmpq.backends.tvm.kernels.cpu.isa.prefetch import WeightPrefetch
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving, refuses_dense
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import Conv2d, Linear

MOST_TILES = 8
ARM_LANES = 4  # of int32: any stack aligns them, and fetching ahead was not measured there
SMALL_BLOCK_BYTES = 12 << 10  # fit an L1d cache in addition to weights in use and codes


def candidates(site: Site, most: int = MOST_TILES) -> tuple[Candidate, ...]:
    """Return the ``most`` tiles of the fewest predicted cycles."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Conv2d | Linear)
    dot = best_dot(site.target, max(q.high, q.zero_point), node.weight.codes)
    shape, work = shape_of(site, dot.lanes), site.work(dot.instruction)
    found = [
        Candidate(str(tile), cycles, partial(build, site, shape, dot, tile), work)
        for tile, cycles in best_tiles(shape, dot, site.target, most)
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
    steps = constants.steps or blocks * shape.steps
    row_tiles = shape.x.batch * -(-shape.y.height // tile.rows)
    across = -(-shape.y.width // tile.columns)

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, factor_, *more_), arguments = epilogue.split(others)
        x = view(x_, "int32", shape.x.size_bytes // GROUP)
        w = view(w_, dot.dtype, steps * tile.vectors * dot.vectors * dot.elements)
        start = view(start_, "int32", blocks * tile.vectors * shape.lanes)
        bound = arguments.bind(factor_, shape.vectors * shape.lanes)
        tables = tuple(view(p, kind, n) for p, (_, kind, n) in zip(more_, more, strict=True))
        with T.parallel(0, blocks * row_tiles) as item:
            if shape.lanes > ARM_LANES:
                align_stack()
                _prefetch_small_block(tile, w, blocks, row_tiles, item)
            row_tile, block = _item(tile, item, row_tiles, blocks)
            image, row = _row(shape, tile, row_tile)
            vector = clamped_start(block, tile.vectors, shape.vectors)
            ahead = _next_block(shape, tile, w, (blocks, row_tiles * across), block)
            with T.serial(0, across) as column_tile:
                column = clamped_start(column_tile, tile.columns, shape.y.width)
                place = Place(image, row, column, block, vector, row_tile * across + column_tile)
                acc = accumulate(TileSums(shape, dot, tile, place, x, w, start, tables, ahead))
                store_tile(shape, tile, place, acc, bound)

    constant = (("w", dot.dtype), ("start", "int32"), ("factor", "float32"))
    names = (*constant, *((name, kind) for name, kind, _ in more))
    return c_function(epilogue.parameters(("x", "int32"), names), body)


def _item(tile: DirectTile, item: Expr, row_tiles: int, blocks: int) -> tuple[Expr, Expr]:
    """Return the row of tiles and the block of one item of the loop."""
    if tile.blocks_outside:
        return item % row_tiles, item // row_tiles
    return item // blocks, item % blocks


def _prefetch_small_block(
    tile: DirectTile, w: Buffer, blocks: int, row_tiles: int, item: Expr
) -> None:
    """Ask for a part of the next block's weights: along the rows of this block for all of them.

    What the processor fetches by itself comes late where all weights of a block are read once from
    memory, for its first row of tiles. With blocks inside, that was slower: it came all at once.
    """
    if not tile.blocks_outside:
        return
    size, line = int(w.shape[0]) // blocks, LINE // np.dtype(str(w.dtype)).itemsize
    lines = -(-size // line)
    if row_tiles > 1 and lines * LINE <= SMALL_BLOCK_BYTES:
        part = -(-lines // row_tiles)
        first = (item // row_tiles + 1) * size + item % row_tiles * part * line
        for number in range(part):
            prefetch(w, first + number * line)


def _next_block(
    shape: DirectShape, tile: DirectTile, w: Buffer, counts: tuple[int, int], block: Expr
) -> WeightPrefetch | None:
    """Return the weights of a large next block, for which ``accumulate_tile`` asks.

    ``counts`` are the blocks, and the tiles of one, which ask for all weights of the next.
    """
    blocks, tiles = counts
    size, item = int(w.shape[0]) // blocks, np.dtype(str(w.dtype)).itemsize
    if not tile.blocks_outside or shape.lanes <= ARM_LANES or size * item <= SMALL_BLOCK_BYTES:
        return None
    line = LINE // item
    return WeightPrefetch(w, (block + 1) * size, -(-size // (line * tiles)), line)


def _row(shape: DirectShape, tile: DirectTile, number: Expr) -> tuple[Expr, Expr]:
    """Return the image and the first row of a row of tiles, counted over all images."""
    tiles = -(-shape.y.height // tile.rows)
    return number // tiles, clamped_start(number % tiles, tile.rows, shape.y.height)


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
    packed = dot.pack(blocked(site.node.weight.codes, shape, tile))
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
