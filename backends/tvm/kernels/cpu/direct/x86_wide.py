"""1x1 convolution of few channels, on AVX-512 VNNI.

Where a layer multiplies few codes per output, as one from 64 to 256 channels does, what follows the
products takes a third of the time. So

- tiles of pixels are walked outside and blocks of outputs inside: a group of four vectors becomes
  64 codes of one pixel, and stores are whole cache lines that follow each other;
- the outputs of a group lie in the weights' lanes as the narrowing instructions need them, so that
  their codes come in the order of memory (``narrowed_order``);
- the accumulators become codes by the shortest requantization that is proven (``requantizers``).

With several blocks, the number of steps is read from memory: LLVM would unroll few steps, broadcast
the codes once for all blocks, and spill them. Where what a layer reads and writes exceeds the
second-level cache, the pixels of the next tile are prefetched.

Few outputs that are no multiple of four vectors are one block: a group then holds vectors of two
pixels, and a permutation puts its codes in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from math import lcm

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Place, Registers, TileSums
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    blocked,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import Pixel, PixelSums, vector_groups
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import BoundResults, Epilogue
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER, in_order, narrowed_order
from gmpq.backends.tvm.kernels.cpu.epilogue.requantizers import LANES, Requantizer, requantizer
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    align_stack,
    assign,
    c_function,
    clamped_start,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import NO_PADDING, Conv2d, QParams, QWeight, Window

MOST_TILES = 4
MOST_STEPS = 64  # of four codes; beyond, what follows the products is little of the time
WIDEST = 7  # vectors of a pixel, of which the registers hold three
REGISTERS = 31  # one is for what the instructions leave in between
L2_CYCLES = 2.5  # of a vector of weights that the first-level cache does not hold
REMEMBERED = 4
DOT = Vpdpbusd()
POINTWISE = Window((1, 1))


@dataclass(frozen=True, slots=True)
class WideTile:
    """What stays in registers: a rectangle of output pixels times vectors of outputs."""

    rows: int
    columns: int
    vectors: int
    prefetched: bool  # what the next tile reads and writes

    @property
    def pixels(self) -> int:
        """Output pixels of the tile."""
        return self.rows * self.columns

    @property
    def ordered(self) -> bool:
        """Whether each group is of one pixel, so that its outputs may lie in any order."""
        return self.vectors % TOGETHER == 0

    @property
    def groups(self) -> int:
        """Groups of four vectors, until they begin at a pixel's first vector again."""
        return lcm(self.vectors, TOGETHER) // TOGETHER

    def direct(self) -> DirectTile:
        """Return the tile as ``direct`` has it."""
        return DirectTile(self.rows, self.columns, self.vectors, blocks_outside=False)

    def __str__(self) -> str:
        more = ", next ones prefetched" if self.prefetched else ""
        return f"{self.rows}x{self.columns} pixels x {self.vectors} vectors, pixels outside{more}"


def refuses(site: Site) -> str | None:
    """Return why what follows the products cannot be shortened, or is not worth it."""
    node, target = site.node, site.target
    assert isinstance(node, Conv2d)
    if not {"avx512vnni", "avx512bw"} <= target.features:
        return "needs AVX-512 VNNI"
    if node.window.kernel != (1, 1) or node.groups > 1:
        return "needs a 1x1 kernel and one group"
    if site.output.value.q is None:
        return "writes codes, not float32"
    if epilogue_of(site).narrowed_lanes != LANES:
        return "its steps may exceed int32"
    shape = shape_of(site, LANES)
    if shape.steps > MOST_STEPS:
        return f"multiplies more than {GROUP * MOST_STEPS} channels"
    if weight_bytes(shape) >= target.l2_bytes // 4:
        return "its weights take too much of the second-level cache"
    return None if widths(shape) else f"{shape.vectors} vectors of outputs are no groups of four"


def weight_bytes(shape: DirectShape) -> int:
    """Return the bytes that all pixels read again."""
    return shape.vectors * LANES * shape.steps * GROUP


def widths(shape: DirectShape) -> list[int]:
    """Return the vectors of outputs that tiles may have: one group, or all of few outputs.

    Other outputs would be computed twice, by a last block that is moved inwards: that was slower.
    """
    if shape.vectors % TOGETHER == 0:
        return [TOGETHER]
    return [shape.vectors] if 1 < shape.vectors <= WIDEST else []


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    assert isinstance(site.node, Conv2d)
    shape, work = flattened(site, shape_of(site, LANES)), site.work(DOT.instruction)
    requant = _requantizer(site)
    found = [
        Candidate(f"{tile}, {requant.name}", cycles, partial(build, site, shape, tile), work)
        for tile, cycles in _best_tiles(site, shape, requant.instructions)
    ]
    return arriving(site, found, 1)


def flattened(site: Site, shape: DirectShape) -> DirectShape:
    """Return ``shape`` with all pixels in one row, where memory has them so."""
    tensors = (*site.operands, *site.results, site.output)
    if shape.window != POINTWISE or any(t.codes.halo != NO_PADDING for t in tensors):
        return shape
    x, y = (replace(side, height=1, width=side.height * side.width) for side in (shape.x, shape.y))
    return replace(shape, x=x, y=y)


def _best_tiles(site: Site, shape: DirectShape, instructions: int) -> list[tuple[WideTile, float]]:
    values = sum(tensor.codes.size_bytes for tensor in (*site.operands, *site.results))
    far = 2 * values > 3 * site.target.l2_bytes
    tiles = [
        WideTile(rows, columns, vectors, far)
        for vectors in widths(shape)
        for rows, columns in product(range(1, 3), range(1, 15))
        if rows <= shape.y.height
        and columns <= shape.y.width
        and (rows * columns + 1) * vectors <= REGISTERS
    ]
    timed = [(tile, _cycles(site, shape, tile, instructions)) for tile in tiles]
    return sorted(timed, key=lambda t: t[1])[:MOST_TILES]


def _cycles(site: Site, shape: DirectShape, tile: WideTile, instructions: int) -> float:
    """Return predicted cycles: two instructions or two loads a cycle."""
    pixels, vectors = tile.pixels, tile.vectors
    tiles = -(-shape.y.height // tile.rows) * -(-shape.y.width // tile.columns)
    blocks = shape.vectors // vectors
    far = weight_bytes(shape) > site.target.l1d_bytes
    loads = L2_CYCLES * vectors if far else (pixels + vectors) / 2
    step = max(pixels * vectors * DOT.product_cycles, loads) + 0.5
    groups = -(-pixels * vectors // TOGETHER)
    return shape.x.batch * tiles * blocks * (shape.steps * step + groups * instructions + 10)


def _requantizer(site: Site) -> Requantizer:
    assert isinstance(site.node, Conv2d)
    return _remembered(site.node.weight, site.inputs[0].q, site.output.q)


@lru_cache(maxsize=REMEMBERED)
def _remembered(weight: QWeight, qx: QParams, qy: QParams) -> Requantizer:
    return requantizer(weight, qx, qy)


def build(site: Site, shape: DirectShape, tile: WideTile) -> Call:
    """Return the call of one tile."""
    assert isinstance(site.node, Conv2d)
    requant = _requantizer(site)
    start, _ = start_and_factor(site.node.weight, site.inputs[0].q, site.output.q)
    codes, start = requant.layer(site.node.weight.codes, start)
    order, size = lanes_of(tile), tile.vectors * LANES
    packed = blocked(codes, shape, tile.direct())
    packed = packed.reshape(*packed.shape[:4], size, GROUP)[..., order, :]
    starts = np.pad(start.astype(np.int32), (0, shape.vectors * LANES - len(start)))
    firsts = np.arange(0, shape.vectors * LANES, size)
    channels = firsts[:, None, None, None] + channels_of(tile)
    function = kernel(shape, tile, epilogue_of(site), requant)
    start_and_steps = np.append(starts.reshape(-1, size)[:, order], np.int32(shape.steps))
    return site.call(function, (packed, start_and_steps, requant.constants(channels)))


def lanes_of(tile: WideTile) -> Array:
    """Return the output that each lane of a block has, int64 [vectors * lanes]."""
    if not tile.ordered:
        return np.arange(tile.vectors * LANES)
    firsts = np.arange(0, tile.vectors * LANES, TOGETHER * LANES)
    return np.asarray((firsts[:, None, None] + narrowed_order(LANES)).reshape(-1))


def channels_of(tile: WideTile) -> Array:
    """Return the output of each lane of the groups of a block, int64 [groups, vectors, lanes]."""
    lanes = lanes_of(tile).reshape(tile.vectors, LANES)
    return lanes[np.arange(tile.groups * TOGETHER) % tile.vectors].reshape(-1, TOGETHER, LANES)


FAMILY = Family("direct_wide", (Conv2d,), candidates, refuses)


# --- the code ------------------------------------------------------------------------------------


def kernel(
    shape: DirectShape, tile: WideTile, epilogue: Epilogue, requant: Requantizer
) -> PrimFunc:
    """Return ``f(x, [residual], weights, start and steps, constants, outputs)``."""
    blocks = shape.vectors // tile.vectors
    down, across = -(-shape.y.height // tile.rows), -(-shape.y.width // tile.columns)
    constant = (("w", DOT.dtype), ("start", "int32"), ("constants", requant.dtype))

    def body(x_: Expr, *others: Expr) -> None:
        (w_, start_, constants_), arguments = epilogue.split(others)
        x = view(x_, "int32", shape.x.size_bytes // GROUP)
        w = view(w_, DOT.dtype, blocks * shape.steps * tile.vectors * DOT.elements)
        start = view(start_, "int32", blocks * tile.vectors * LANES + 1)
        constants = view(constants_, requant.dtype, blocks * tile.groups * requant.elements)
        results = arguments.results()
        with T.parallel(0, shape.x.batch * down * across) as item:
            align_stack()
            row_tile = item // across
            image, row = row_tile // down, clamped_start(row_tile % down, tile.rows, shape.y.height)
            column = clamped_start(item % across, tile.columns, shape.y.width)
            with T.serial(0, blocks) as block:
                place = Place(image, row, column, block, block * tile.vectors)
                if tile.prefetched:
                    ahead = replace(place, column=column + tile.columns)
                    results.prefetch(_pixels(tile, ahead), place.vector * LANES)
                sums = TileSums(shape, DOT, tile.direct(), place, x, w, start)
                steps = start[blocks * tile.vectors * LANES] if blocks > 1 else shape.steps
                acc = zip(_pixels(tile, place), _accumulated(sums, steps), strict=True)
                pixels = [PixelSums(pixel, [slot[0] for slot in slots]) for pixel, slots in acc]
                _store(tile, place, pixels, results, requant, constants)

    return c_function(epilogue.parameters(("x", "int32"), constant), body)


def _accumulated(sums: TileSums, steps: Expr) -> Registers:
    acc = sums.registers(f"int32x{LANES}")
    sums.begin(acc)
    with T.serial(0, steps) as k:
        for slot, operands, weights in sums.products(acc, (0, 0, k)):
            assign(slot, DOT.accumulate(slot[0], operands, weights))
    return acc


def _pixels(tile: WideTile, place: Place) -> list[Pixel]:
    inside = product(range(tile.rows), range(tile.columns))
    return [(place.image, place.row + row, place.column + column) for row, column in inside]


def _store(
    tile: WideTile,
    place: Place,
    sums: Sequence[PixelSums],
    results: BoundResults,
    requant: Requantizer,
    constants: Buffer,
) -> None:
    q = results.epilogue.q
    assert q is not None
    channel, alone = place.vector * LANES, tile.rows == 1
    groups = vector_groups(sums, channel, LANES, TOGETHER, neighbours=alone)
    for number, group in enumerate(groups):
        acc = [each for each, _ in group.vectors]
        four = [acc[n % len(acc)] for n in range(TOGETHER)]
        first = (place.block * tile.groups + number % tile.groups) * requant.elements
        codes = requant.codes(four, constants, first, q)
        if not tile.ordered:
            codes = in_order(codes, LANES)
        results.store(group, codes)
