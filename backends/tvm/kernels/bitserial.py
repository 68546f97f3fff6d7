"""Convolution and fully connected layers of one or two bits by AND and population count.

With the planes b_j of the weights (``bitserial_planes``) and a_i of the codes, and with codes at
most 2**planes - 1, which ``QParams`` bounds, zero point and padding included,

    acc = bias - z * sum of w  +  offset * sum of x  +  sum c_j * 2**i * popcount(a_i AND b_j),

the sums running over a window's taps and channels. A lane of 32 bits holds 32 channels of one tap
for one output channel, so that an accumulator has sixteen output channels, as in ``direct``, and
needs no sum across lanes; the code's plane is broadcast. Every (i, j) costs three instructions for
512 products; vpdpbusd takes eight. Factors of one magnitude share an accumulator, which adds or
subtracts. ``sum of x`` is there once per pixel, and only if the weights are -1 and +1.

Each task packs the rows of codes that it reads into planes on its stack, two instructions for 32
codes and plane, then runs over all output channels. What memory holds in padding channels meets
weights of zero, and is masked for ``sum of x``. Processors without a population count of vectors
take longer for it than for the products of bytes, so that there is no portable version.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site, streamed_cycles
from gmpq.backends.tvm.kernels.bitserial_code import Kernel, Shape, Tile
from gmpq.backends.tvm.kernels.bitserial_planes import Planes, planes_of, words
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.layout import VECTOR
from gmpq.ir import Conv2d, Linear, Window

INSTRUCTION = "vpandd+vpopcntd+vpaddd"  # every pair of planes multiplies all codes by all weights
MOST_PAIRS = 4  # of planes; beyond, products of bytes are faster on every processor
MOST_TILES = 6
SCRATCH_BYTES = 128 << 10


def refuses(site: Site) -> str | None:
    """Return why the layer has too many bits, or the target no population count."""
    node = site.node
    assert isinstance(node, Conv2d | Linear)
    if not {"avx512vpopcntdq", "avx512bw"} <= site.target.features:
        return "needs AVX-512 VPOPCNTDQ"
    if isinstance(node, Conv2d) and node.groups > 1:
        return "needs one group"
    shape = shape_of(site, planes_of(node.weight.codes))
    if shape.pairs > MOST_PAIRS:
        return f"has {shape.pairs} pairs of bit planes: pays up to {MOST_PAIRS}"
    if not _tiles(shape):
        return "one row of bit planes is too large for the stack"
    largest = _largest_sum(site, shape)
    return None if largest < 1 << 31 else f"may sum up to {largest}, beyond int32"


def _largest_sum(site: Site, shape: Shape) -> int:
    """Return a bound of all terms of an accumulator together, without their signs."""
    node, x = site.node, site.inputs[0]
    assert isinstance(node, Conv2d | Linear)
    start, _ = start_and_factor(node.weight, x.q, site.output.q)
    inputs = int(node.weight.codes[0].size) * ((1 << shape.planes) - 1)
    factors = sum(abs(factor) for factor in shape.factors) + abs(shape.offset)
    return int(np.abs(start.astype(np.int64)).max()) + inputs * factors


def shape_of(site: Site, planes: Planes) -> Shape:
    """Return the sizes of a convolution, or of a fully connected layer as one of 1x1."""
    node, x, q = site.node, site.inputs[0].codes, site.inputs[0].q
    assert isinstance(node, Conv2d | Linear)
    window = node.window if isinstance(node, Conv2d) else Window((1, 1))
    digits = max(q.high, q.zero_point, 1).bit_length()
    return Shape(window, x, site.output.codes, digits, planes.factors, planes.offset)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    assert isinstance(site.node, Conv2d | Linear)
    planes = planes_of(site.node.weight.codes)
    shape = shape_of(site, planes)
    streamed = streamed_cycles(site, planes.bits.size // 8)
    found = [(tile, _cycles(shape, tile) + streamed) for tile in _tiles(shape)]
    work = site.work(INSTRUCTION, shape.pairs)
    return tuple(
        Candidate(str(tile), cycles, partial(build, site, shape, tile), work)
        for tile, cycles in sorted(found, key=lambda pair: pair[1])[:MOST_TILES]
    )


def _tiles(shape: Shape) -> list[Tile]:
    """Return the tiles whose accumulators fit the registers and whose planes fit the stack."""
    accumulators = len(shape.magnitudes)
    sizes = product(
        sorted({min(rows, shape.y.height) for rows in (1, 2, 4, 8)}),
        range(1, min(12, shape.y.width) + 1),
        range(1, min(4, shape.vectors) + 1),
    )
    tiles = [Tile(*size) for size in sizes]
    return [
        tile
        for tile in tiles
        if tile.columns * tile.vectors * accumulators + tile.vectors * len(shape.factors) <= 27
        and shape.pixels(tile) * (shape.words * shape.planes + 1) * 4 <= SCRATCH_BYTES
    ]


def _cycles(shape: Shape, tile: Tile) -> float:
    """Return predicted cycles: two vector instructions or two loads a cycle."""
    instructions = 3 * tile.columns * tile.vectors * shape.pairs
    loads = tile.vectors * len(shape.factors) + tile.columns * shape.planes
    steps = shape.window.kernel[0] * shape.window.kernel[1] * shape.words
    finish = (5 + 2 * len(shape.magnitudes)) * tile.columns * tile.vectors + 10
    work = steps * (max(instructions, loads) / 2 + 0.5) + finish
    row = -(-shape.vectors // tile.vectors) * -(-shape.y.width // tile.columns) * work
    packing = shape.pixels(tile) * shape.words * (shape.planes * 1.5 + 2)
    return shape.x.batch * -(-shape.y.height // tile.rows) * (tile.rows * row + packing)


def build(site: Site, shape: Shape, tile: Tile) -> Call:
    """Return the call of one tile."""
    node, padded = site.node, shape.vectors * VECTOR
    assert isinstance(node, Conv2d | Linear)
    start, factor = start_and_factor(node.weight, site.inputs[0].q, site.output.q)
    rest = (0, padded - len(start))
    packed = _packed(planes_of(node.weight.codes).bits, shape, tile)
    function = Kernel(shape, tile, site.finish).function()
    return site.call(function, (packed, np.pad(start, rest), np.pad(factor, rest)))


def _packed(bits: Array, shape: Shape, tile: Tile) -> Array:
    """Return int32 [blocks, kH, kW, words, vectors, planes, lanes] of bits [planes, O, ...]."""
    planes, outputs = bits.shape[:2]
    taps = bits.reshape(planes, outputs, -1, *shape.window.kernel).transpose(0, 1, 3, 4, 2)
    packed = words(taps)  # [planes, O, kH, kW, words]
    packed = np.pad(packed, ((0, 0), (0, shape.vectors * VECTOR - outputs), *[(0, 0)] * 3))
    blocks = -(-shape.vectors // tile.vectors)
    first = np.minimum(np.arange(blocks) * tile.vectors, shape.vectors - tile.vectors)
    lanes = first[:, None, None] * VECTOR + np.arange(tile.vectors * VECTOR).reshape(-1, VECTOR)
    # [planes, blocks, vectors, lanes, kH, kW, words]
    return np.ascontiguousarray(packed[:, lanes].transpose(1, 4, 5, 6, 2, 0, 3))


FAMILY = Family("bitserial", (Conv2d, Linear), candidates, refuses)
