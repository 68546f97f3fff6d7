"""Direct convolution on NEON without dot products, by the sums of ``neon_sums``.

An accumulator is one pixel times one output channel. Codes beyond 127 are multiplied less 128
(``arm_dot``). Where a row of taps lies side by side, as with few channels, its steps run across
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Registers, TileSums
from gmpq.backends.tvm.kernels.cpu.direct.direct import WeightTables, constants_of, kernel
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    blocked,
    blocks_outside,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import assign, in_registers, load, view
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import NeonRuns, runs_of
from gmpq.backends.tvm.kernels.cpu.isa.neon_sums import OperandPair, StepIndex, summed
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving
from gmpq.backends.tvm.target.pipeline import PipelineModel, pipeline_of
from gmpq.ir import Conv2d, Linear

LANES = 4  # channels of a vector of outputs
MOST_TILES = 8


@dataclass(frozen=True, slots=True)
class NeonWeights:
    """How weights lie in memory: sixteen codes of a channel are a vector."""

    vectors: ClassVar[int] = LANES  # of a step, per vector of outputs
    elements: ClassVar[int] = neon.CODES
    dtype: ClassVar[str] = "int8"


def refuses(site: Site) -> str | None:
    """Return why NEON's multiplications do not pay or do not fit."""
    if neon.word_bits(site.target) is None:
        return "needs NEON"
    if "dotprod" in site.target.features:
        return "sdot adds sixteen products at once into int32"
    return None if _runs(site) else "some pair of products does not fit int16"


def _runs(site: Site) -> tuple[NeonRuns, ...]:
    node, bits = site.node, neon.word_bits(site.target)
    assert isinstance(node, Conv2d | Linear)
    assert bits is not None
    rows = rows_of(
        node.weight.codes, shape_of(site, LANES), DirectTile(1, 1, 1, blocks_outside=False)
    )
    return runs_of(rows, neon.code_range(site.inputs[0].q), bits)


def candidates(site: Site, most: int = MOST_TILES) -> tuple[Candidate, ...]:
    """Return the ``most`` tiles of the fewest predicted cycles."""
    shape = shape_of(site, LANES)
    found = [
        Candidate(
            f"{tile}, {runs}",
            _cycles(shape, runs, tile, pipeline_of(site.target)),
            partial(build, site, shape, runs, tile),
            site.work(runs.instruction),
        )
        for runs in reversed(_runs(site))  # among equals, fewer instructions first
        for tile in _tiles(site, runs)
    ]
    found.sort(key=lambda candidate: candidate.cost)
    return arriving(site, found[:most], 1)


def tiles(site: Site, steps: int, fits: Callable[[int, int], bool]) -> Iterator[DirectTile]:
    """Yield the tiles whose numbers of pixels and of vectors ``fits`` allows."""
    shape = shape_of(site, LANES)
    weights = neon.CODES * LANES * shape.vectors * steps
    most = 1 if shape.inputs_per_group < shape.x.channels else min(4, shape.vectors)
    sizes = product(range(1, min(2, shape.y.height) + 1), range(1, min(8, shape.y.width) + 1))
    for (rows, columns), vectors in product(sizes, range(1, most + 1)):
        if fits(rows * columns, vectors):
            outside = blocks_outside(shape, weights, rows, vectors, site.target)
            yield DirectTile(rows, columns, vectors, outside)


def _tiles(site: Site, runs: NeonRuns) -> Iterator[DirectTile]:
    """Yield the tiles whose accumulators, codes, weights and sums fit the registers.

    Sums that widen at once take one more register per pixel.
    """
    registers = site.target.vector_registers
    if runs.int16_run.total == 1:
        return tiles(site, runs.steps.total, lambda p, v: p * (LANES * v + 2) + v + 2 <= registers)
    return tiles(site, runs.steps.total, lambda p, v: p * (LANES * v + 1) + 4 <= registers)


def _cycles(shape: DirectShape, runs: NeonRuns, tile: DirectTile, pipeline: PipelineModel) -> float:
    """Return predicted cycles of products, of loads and of the end."""
    channels = LANES * tile.vectors
    tiles = -(-shape.y.height // tile.rows) * -(-shape.y.width // tile.columns)
    blocks = shape.x.batch * tiles * -(-shape.vectors // tile.vectors)
    step = runs.step_cycles(pipeline, tile.pixels, channels)
    return blocks * (runs.steps.total * step + 4 * tile.pixels * channels)


FAMILY = Family("direct_neon", (Conv2d, Linear), candidates, refuses)


def build(site: Site, shape: DirectShape, runs: NeonRuns, tile: DirectTile) -> Call:
    """Return the call of one tile."""
    assert isinstance(site.node, Conv2d | Linear)
    rows = rows_of(site.node.weight.codes, shape, tile)
    low, _ = neon.code_range(site.inputs[0].q)
    accumulate = partial(_accumulate, runs, low < 0)
    steps = len(rows) * runs.steps.total
    function = kernel(
        shape, NeonWeights(), tile, epilogue_of(site), accumulate, WeightTables(steps=steps)
    )
    return site.call(function, constants_of(site, shape, tile, rows, -low))


def rows_of(codes: Array, shape: DirectShape, tile: DirectTile) -> Array:
    """Return weights int8 [blocks, rows, columns, depth, channels, 16], as steps read them.

    Taps of a row that lie side by side are one column.
    """
    taps = blocked(codes, shape, tile).transpose(0, 1, 4, 5, 2, 3, 6)
    blocks, rows, vectors, lanes, columns, *_ = taps.shape
    apart = 1 if shape.contiguous_taps else columns
    return neon.in_steps(taps.reshape(blocks, rows, vectors * lanes, apart, -1))


# --- the code ------------------------------------------------------------------------------------


def _accumulate(runs: NeonRuns, shifted: bool, sums: TileSums) -> Registers:
    """Return the accumulators by pixel and vector."""
    pixels = sums.tile.pixels
    count = pixels * sums.tile.vectors * LANES
    acc = summed(runs, count, pixels, partial(_products, runs, shifted, sums))
    total = sums.registers("int32x4")
    sums.begin(total)
    for (p, slots), n in product(enumerate(total), range(sums.tile.vectors)):
        four = [acc[(n * LANES + lane) * pixels + p][0] for lane in range(LANES)]
        assign(slots[n], slots[n][0] + neon.across(four))
    return total


def _products(runs: NeonRuns, shifted: bool, sums: TileSums, step: StepIndex) -> list[OperandPair]:
    """Return sixteen codes and weights of a step for every accumulator: by channel and pixel."""
    r, s, k = step
    x = view(sums.x.data, "int8", sums.shape.x.size_bytes)
    first = sums.corner() + sums.tap(r, s) + k * neon.CODES
    codes = [load(x, first + offset, neon.CODES) for offset in sums.offsets()]
    if shifted:
        codes = [neon.signed(each) for each in codes]
    rows, columns, depth = runs.steps
    number = ((sums.place.block * rows + r) * columns + s) * depth + k
    channels = sums.tile.vectors * LANES
    places = (number * channels + channel for channel in range(channels))
    weights = [load(sums.w, place * neon.CODES, neon.CODES) for place in places]
    return [(x, w) for w, x in product(in_registers(weights), in_registers(codes))]
