"""Direct convolution of few bits that adds in int16 and widens only after a proven run of steps.

vpmaddubsw adds two products u8 * s8 into an int16 lane (Intel SDM, VPMADDUBSW). With few bits many
such sums fit in int16, so that a step is one multiplication and one addition, and vpmaddwd by ones
widens once per run:

    acc16 = sum over the run of vpmaddubsw(codes, weights)
    acc32 = acc32 + vpmaddwd(acc16, 1)

The weights are constants, and codes lie in 0..high. So the sum of a lane over a run lies between
-high * (sum of its negative weights) and high * (sum of its positive ones), whatever the codes. A
run is legal if that fits int16 in every lane of the layer; sums on the way may wrap, since addition
modulo 2**16 is exact if its result fits, and no single pair saturates, being a part of such a sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Registers, TileSums
from gmpq.backends.tvm.kernels.cpu.direct.direct import constants, kernel
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    best_tiles,
    blocked,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import assign, splat
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpmaddubsw, vpmaddubsw_lanes
from gmpq.ir import Conv2d, Linear

MOST_TILES = 8
SHORTEST = 4  # steps of a run; below, widening costs more than it saves
REMEMBERED = 4  # runs of one layer, which is asked for refusals, then for candidates
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True)
class Int16Run:
    """Steps between two widenings: kernel rows, kernel columns, and groups of four channels."""

    rows: int
    columns: int
    depth: int

    @property
    def steps(self) -> int:
        """Multiplications per lane."""
        return self.rows * self.columns * self.depth

    def __str__(self) -> str:
        return f"runs of {self.steps}"


def longest_run(codes: Array, shape: DirectShape, high: int) -> Int16Run | None:
    """Return the longest legal run for weights [O, I / groups, kH, kW] and codes 0..``high``."""
    lanes = blocked(codes, shape, DirectTile(1, 1, 1, blocks_outside=False))
    pairs = lanes.reshape(*lanes.shape[:-1], 2, 2)
    return next((run for run in _runs(shape) if _fits(pairs, run, high)), None)


def _runs(shape: DirectShape) -> Iterator[Int16Run]:
    rows, columns = shape.window.kernel
    yield Int16Run(rows, columns, shape.depth)
    yield Int16Run(1, columns, shape.depth)
    for depth in range(shape.depth, 0, -1):
        if shape.depth % depth == 0:
            yield Int16Run(1, 1, depth)


def _fits(pairs: Array, run: Int16Run, high: int) -> bool:
    """Return whether the sums of pairs [blocks, kH, kW, depth, vectors, lanes, 2, 2] fit int16."""
    blocks, rows, columns, depth, *rest = pairs.shape
    split = (blocks, rows // run.rows, run.rows, columns // run.columns, run.columns)
    runs = pairs.reshape(*split, depth // run.depth, run.depth, *rest)
    highest = high * np.maximum(runs, 0).sum(axis=(2, 4, 6, -1), dtype=np.int32)
    lowest = high * np.minimum(runs, 0).sum(axis=(2, 4, 6, -1), dtype=np.int32)
    return bool(highest.max() <= INT16.max and lowest.min() >= INT16.min)


def refuses(site: Site) -> str | None:
    """Return why int16 sums do not pay or do not fit."""
    if "avx512vnni" in site.target.features:
        return "AVX-512 VNNI adds four products at once into int32"
    if vpmaddubsw_lanes(site.target) is None:
        return "needs AVX2"
    run = run_of(site)
    if run is None:
        return "some pair of products does not fit int16"
    if run.steps < SHORTEST:
        return f"int16 holds the sums of {run.steps} steps: {SHORTEST} would pay"
    return None


def run_of(site: Site) -> Int16Run | None:
    """Return the longest legal run of the layer at ``site``."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Conv2d | Linear)
    return _remembered(node, shape_of(site, _dot(site).lanes), max(q.high, q.zero_point))


@lru_cache(maxsize=REMEMBERED)
def _remembered(node: Conv2d | Linear, shape: DirectShape, high: int) -> Int16Run | None:
    return longest_run(node.weight.codes, shape, high)


def _dot(site: Site, run: int = 1) -> Vpmaddubsw:
    lanes = vpmaddubsw_lanes(site.target)
    assert lanes is not None
    return Vpmaddubsw(lanes, run)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    run = run_of(site)
    assert run is not None
    dot = _dot(site, run.steps)
    shape, work = shape_of(site, dot.lanes), site.work(dot.instruction)
    found = [
        Candidate(f"{tile}, {run}", cycles, partial(build, site, shape, dot, tile, run), work)
        for tile, cycles in best_tiles(shape, dot, site.target, MOST_TILES)
    ]
    return arriving(site, found, 1)


def build(site: Site, shape: DirectShape, dot: Vpmaddubsw, tile: DirectTile, run: Int16Run) -> Call:
    """Return the call of one tile."""
    function = kernel(shape, dot, tile, epilogue_of(site), partial(_accumulate, run))
    return site.call(function, constants(site, shape, dot, tile))


FAMILY = Family("direct16", (Conv2d, Linear), candidates, refuses)


# --- the code ------------------------------------------------------------------------------------


def _accumulate(run: Int16Run, sums: TileSums) -> Registers:
    """Return the accumulators by pixel and vector."""
    shape, dot = sums.shape, sums.dot
    rows, columns = shape.window.kernel
    runs = (rows // run.rows, columns // run.columns, shape.depth // run.depth)
    acc = sums.registers(f"int32x{shape.lanes}")
    if runs != (1, 1, 1):
        sums.begin(acc)
    with T.grid(*runs) as (r, s, k):
        narrow = sums.registers(f"int16x{2 * shape.lanes}")
        for slot in chain(*narrow):
            assign(slot, splat(T.int16(0), 2 * shape.lanes))
        with T.grid(run.rows, run.columns, run.depth) as (i, j, m):
            step = (r * run.rows + i, s * run.columns + j, k * run.depth + m)
            for slot, operands, weights in sums.products(narrow, step):
                assign(slot, slot[0] + dot.pairs(operands, weights))
        if runs == (1, 1, 1):
            sums.begin(acc)  # they need no registers before
        for slot, short in zip(chain(*acc), chain(*narrow), strict=True):
            assign(slot, slot[0] + dot.widen(short[0]))
    return acc
