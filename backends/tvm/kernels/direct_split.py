"""Direct convolution of eight bits in bytes on AVX2: weights whose pairs would saturate are split.

vpmaddubsw adds two products u8 * s8 in int16 with saturation. It acts only if both weights of a
pair have one sign and high * |w0 + w1| exceeds int16, which is rare where weights are bell-shaped.
So let

    w = c + r,    c = w, but where a pair does not fit the second weight is shortened until it does.

All steps multiply by c. Steps in which some r of a block of outputs is not zero come a second time,
by r: a list per block says which. Either way no pair saturates: those of c by construction, those
of r because each has one weight that is not zero. This takes two multiplications per 32 products,
as int16 operands do, but half the loads, and additions do not take the multipliers' ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.dot import Narrow, Wide, best_dot, multiplied_lanes
from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.direct import (
    Registers,
    Sums,
    accumulate_tile,
    constants_of,
    kernel,
)
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, best_tiles, blocked, shape_of
from gmpq.backends.tvm.layout import GROUP
from gmpq.backends.tvm.script import put
from gmpq.ir import Conv2d, Linear

MOST_TILES = 8
MOST_REPEATED = 0.4  # of the steps; beyond, int16 operands are as fast
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The weights of a layer in two summands, laid out for a tile."""

    first: Array  # c: int8 [blocks, kH, kW, depth, vectors, lanes, 4]
    rest: Array  # r of the repeated steps: int8 [steps, vectors, lanes, 4]
    steps: Array  # bool [blocks, kH, kW, depth], those that are repeated

    @property
    def repeated(self) -> float:
        """The share of steps that are repeated."""
        return float(self.steps.mean())


def split(codes: Array, shape: Shape, tile: Tile, high: int) -> Split:
    """Return weights ``codes`` for input codes 0..``high`` in two summands that never saturate."""
    whole = blocked(codes, shape, tile).astype(np.int16)
    pairs = whole.reshape(*whole.shape[:-1], 2, 2)
    first = pairs.copy()
    room = np.clip(pairs[..., 0], INT16.min // high, INT16.max // high)
    low, most = -(-INT16.min // high) - np.minimum(room, 0), INT16.max // high
    np.clip(pairs[..., 1], low, most - np.maximum(room, 0), out=first[..., 1])
    rest = (pairs - first).reshape(whole.shape)
    steps = np.asarray(rest.any(axis=(-1, -2, -3)))
    return Split(first.reshape(whole.shape).astype(np.int8), rest[steps].astype(np.int8), steps)


def refuses(site: Site) -> str | None:
    """Return why splitting is of no use."""
    node, high = site.node, _high(site)
    assert isinstance(node, Conv2d | Linear)
    if not isinstance(best_dot(site.target, high, node.weight.codes), Wide):
        return "bytes multiply exactly as they are, or there is no vpmaddubsw"
    shape = shape_of(site, _dot(site))
    grouped = shape.inputs_per_group < shape.x.channels
    tile = Tile(1, 1, 1 if grouped else min(2, shape.vectors), blocks_outside=False)
    repeated = split(node.weight.codes, shape, tile, high).repeated
    if repeated <= MOST_REPEATED:
        return None
    return f"{repeated:.0%} of the steps have pairs that saturate: pays up to {MOST_REPEATED:.0%}"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    node, dot, high = site.node, _dot(site), _high(site)
    assert isinstance(node, Conv2d | Linear)
    shape, found = shape_of(site, dot), []
    repeated: dict[int, float] = {}  # by vectors of the tile
    for tile, cycles in best_tiles(shape, dot, site.target, MOST_TILES):
        if tile.vectors not in repeated:
            repeated[tile.vectors] = split(node.weight.codes, shape, tile, high).repeated
        times = 1 + repeated[tile.vectors]
        built = partial(build, site, shape, dot, tile)
        work = site.work(dot.instruction, times)
        found.append(Candidate(str(tile), cycles * times, built, work))
    return tuple(sorted(found, key=lambda candidate: candidate.cycles))


FAMILY = Family("direct_split", (Conv2d, Linear), candidates, refuses)


def _high(site: Site) -> int:
    q = site.inputs[0].q
    return max(q.high, q.zero_point)


def _dot(site: Site) -> Narrow:
    lanes = multiplied_lanes(site.target)
    assert lanes is not None
    return Narrow(lanes)


def build(site: Site, shape: Shape, dot: Narrow, tile: Tile) -> Call:
    """Return the call of one tile."""
    assert isinstance(site.node, Conv2d | Linear)
    found = split(site.node.weight.codes, shape, tile, _high(site))
    blocks = len(found.steps)
    ends = np.cumsum([0, *found.steps.reshape(blocks, -1).sum(axis=1)]).astype(np.int32)
    constants = (
        *constants_of(site, shape, dot.pack(found.first)),
        dot.pack(found.rest),
        _places(shape)[np.nonzero(found.steps)[1:]],
        ends,
    )
    count = max(1, len(found.rest))
    more = (
        ("rest", "int8", count * tile.vectors * dot.elements),
        ("places", "int32", count),
        ("ends", "int32", blocks + 1),
    )
    return site.call(kernel(shape, dot, tile, site.finish, _accumulate, more), constants)


def _places(shape: Shape) -> Array:
    """Return the int32 from a pixel's first tap to the codes of each step, [kH, kW, depth]."""
    (dy, dx), (rows, columns) = shape.window.dilation, shape.window.kernel
    r, s, k = np.ix_(np.arange(rows), np.arange(columns), np.arange(shape.depth))
    taps = r * (dy * shape.x.row) + s * (dx * shape.x.stored)
    return (taps // GROUP + k).astype(np.int32)


def _accumulate(sums: Sums) -> Registers:
    """Return the accumulators by pixel and vector."""
    acc = accumulate_tile(sums)
    rest, places, ends = sums.more
    first = ends[sums.place.block]
    with T.serial(0, ends[sums.place.block + 1] - first) as i:
        number = first + i
        for slot, operands, weights in sums.products_at(acc, places[number], rest, number):
            put(slot, sums.dot.accumulate(slot[0], operands, weights))
    return acc
