"""Convolution and fully connected layers of few bits by AND and population count.

The bit planes of Zhou et al., DoReFa-Net, 2016 (arXiv:1606.06160), with zero points.

With the planes of the weights (``planes``), the codes' planes a_i, and codes at most
2**planes - 1, which ``QParams`` bounds, zero point and padding included,

    acc = start  +  sum over i, j of c_j * 2**i * popcount((a_i XOR n) AND m_j),
    start = bias - z * sum of w  +  (2**planes - 1) * sum of min(w, 0),

the sums running over a window's taps and channels. An accumulator has a lane per output channel, as
in ``direct``; the word of a code's plane is broadcast (``popcount``). Counts of one
magnitude c_j * 2**i share an accumulator, and are shifted once at the end of a run of steps.

All counts are positive, so that the accumulators in int32 never exceed the last sum: it is bounded
by the start and by the magnitudes of an output's weights times the highest code (``refuses``).

Each task packs the rows of codes that it reads into planes on its stack, then runs over all output
channels. What memory holds in padding channels meets weights of zero, or is masked where weights
have none. Processors without a population count of vectors take longer for it than for the products
of bytes, so that there is no portable version.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.bitserial.loops import (
    BitserialKernel,
    BitserialShape,
    BitserialTile,
)
from gmpq.backends.tvm.kernels.cpu.bitserial.planes import PlaneForm, packed_words, planes_of
from gmpq.backends.tvm.kernels.cpu.bitserial.popcount import counter_of
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, refuses_dense, streamed_cycles
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.pipeline import PipelineModel, pipeline_of
from gmpq.ir import Conv2d, Linear, Window

MOST_TILES = 6
MOST_ROWS = 8
SCRATCH_BYTES = 128 << 10
OPERANDS = 5  # registers that hold neither sums nor weights


def refuses(site: Site) -> str | None:
    """Return why the layer has too many bits, or the target no population count."""
    node, counter = site.node, counter_of(site.target)
    assert isinstance(node, Conv2d | Linear)
    if counter is None:
        return "needs AVX-512 VPOPCNTDQ or NEON"
    if (reason := refuses_dense(site)) is not None:
        return reason
    if isinstance(node, Conv2d) and node.groups > 1:
        return "needs one group"
    shape = shape_of(site, planes_of(node.weight.codes).form)
    if shape.pairs > counter.most_pairs:
        return f"has {shape.pairs} pairs of bit planes: pays up to {counter.most_pairs}"
    if sum(shape.magnitudes) > counter.most_weight * shape.magnitudes[0]:
        return f"has digits of weights too far apart: {shape.form.factors}"
    if not _tiles(site, shape):
        return "has too many planes for the registers, or too wide rows for the stack"
    largest = _largest_sum(site, shape)
    return None if largest < 1 << 31 else f"may sum up to {largest}, beyond int32"


def _largest_sum(site: Site, shape: BitserialShape) -> int:
    """Return a bound of all terms of an accumulator together."""
    assert isinstance(site.node, Conv2d | Linear)
    magnitudes = np.abs(_rows(site).astype(np.int64)).sum(axis=1)
    bounds = np.abs(_starts(site, shape)) + ((1 << shape.planes) - 1) * magnitudes
    return int(bounds.max())


def _starts(site: Site, shape: BitserialShape) -> Array:
    """Return the starts of all outputs, int64."""
    node, x = site.node, site.inputs[0]
    assert isinstance(node, Conv2d | Linear)
    start, _ = start_and_factor(node.weight, x.q, site.output.value.q)
    negative = np.minimum(_rows(site), 0).sum(axis=1, dtype=np.int64)
    starts: Array = start + ((1 << shape.planes) - 1) * negative
    return starts


def _rows(site: Site) -> Array:
    """Return the weights of every output."""
    assert isinstance(site.node, Conv2d | Linear)
    codes: Array = site.node.weight.codes
    return codes.reshape(len(codes), -1)


def shape_of(site: Site, form: PlaneForm) -> BitserialShape:
    """Return the sizes of a convolution, or of a fully connected layer as one of 1x1."""
    node, x, q = site.node, site.inputs[0].codes, site.inputs[0].q
    counter = counter_of(site.target)
    assert isinstance(node, Conv2d | Linear)
    assert counter is not None
    window = node.window if isinstance(node, Conv2d) else Window((1, 1))
    digits = max(q.high, q.zero_point, 1).bit_length()
    return BitserialShape(window, x, site.output.codes, digits, form, counter)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    assert isinstance(site.node, Conv2d | Linear)
    planes = planes_of(site.node.weight.codes)
    shape, pipeline = shape_of(site, planes.form), pipeline_of(site.target)
    stored = planes.bits.size // 8
    streamed = streamed_cycles(site, stored)
    found = [(tile, _cycles(shape, tile, pipeline) + streamed) for tile in _tiles(site, shape)]
    work = site.work(shape.counter.instruction, shape.pairs)
    return tuple(
        Candidate(
            str(tile),
            cycles,
            partial(build, site, shape, tile),
            work,
            shape.x.batch * shape.row_tiles(tile),
            stored,
        )
        for tile, cycles in sorted(found, key=lambda pair: pair[1])[:MOST_TILES]
    )


def _tiles(site: Site, shape: BitserialShape) -> list[BitserialTile]:
    """Return the tiles whose accumulators fit the registers and whose planes fit the stack."""
    accumulators = len(shape.magnitudes)
    sizes = product(
        sorted({-(-shape.y.height // n) for n in range(1, shape.y.height + 1)}),
        range(1, min(12, shape.y.width) + 1),
        range(1, min(4, shape.vectors) + 1),
    )
    spare = site.target.vector_registers - OPERANDS
    return [
        tile
        for tile in (BitserialTile(*size) for size in sizes)
        if tile.rows <= MOST_ROWS
        and tile.vectors * (tile.columns * accumulators + shape.form.stored) <= spare
        and shape.pixels(tile) * shape.words * shape.planes * 4 <= SCRATCH_BYTES
    ]


def _cycles(shape: BitserialShape, tile: BitserialTile, pipeline: PipelineModel) -> float:
    """Return predicted cycles of steps, of wider sums after runs, the epilogue, and packing."""
    sums, accumulators = tile.columns * tile.vectors, len(shape.magnitudes)
    words = tile.columns * shape.planes
    instructions = sums * shape.counter.instructions(shape.form, shape.planes) + words
    step = pipeline.step(instructions * pipeline.vector, tile.vectors * shape.form.stored + words)
    runs = shape.steps.total // shape.run.total
    epilogue = sums * (runs * 4 * (accumulators + 1) + 20) * pipeline.vector
    one = pipeline.waiting * shape.steps.total * step + epilogue
    row = -(-shape.vectors // tile.vectors) * -(-shape.y.width // tile.columns) * one
    word = (shape.planes * shape.counter.packing + 6) * pipeline.vector
    packing = shape.pixels(tile) * shape.words * word
    return shape.x.batch * -(-shape.y.height // tile.rows) * (tile.rows * row + packing)


def build(site: Site, shape: BitserialShape, tile: BitserialTile) -> Call:
    """Return the call of one tile."""
    node, padded = site.node, shape.vectors * shape.lanes
    assert isinstance(node, Conv2d | Linear)
    start = _starts(site, shape).astype(np.int32)
    _, factor = start_and_factor(node.weight, site.inputs[0].q, site.output.value.q)
    rest = (0, padded - len(start))
    packed = _packed(planes_of(node.weight.codes).bits, shape, tile)
    function = BitserialKernel(shape, tile, epilogue_of(site)).function()
    return site.call(function, (packed, np.pad(start, rest), np.pad(factor, rest)))


def _packed(bits: Array, shape: BitserialShape, tile: BitserialTile) -> Array:
    """Return int32 [blocks, kH, kW, words, vectors, planes, lanes] of bits [planes, O, ...]."""
    planes, outputs = bits.shape[:2]
    taps = bits.reshape(planes, outputs, -1, *shape.window.kernel).transpose(0, 1, 3, 4, 2)
    packed = packed_words(taps)  # [planes, O, kH, kW, words]
    packed = np.pad(packed, ((0, 0), (0, shape.vectors * shape.lanes - outputs), *[(0, 0)] * 3))
    blocks = -(-shape.vectors // tile.vectors)
    first = np.minimum(np.arange(blocks) * tile.vectors, shape.vectors - tile.vectors)
    lanes = np.arange(tile.vectors * shape.lanes).reshape(-1, shape.lanes)
    outputs_of = first[:, None, None] * shape.lanes + lanes
    # [planes, blocks, vectors, lanes, kH, kW, words]
    return np.ascontiguousarray(packed[:, outputs_of].transpose(1, 4, 5, 6, 2, 0, 3))


FAMILY = Family("bitserial", (Conv2d, Linear), candidates, refuses)
