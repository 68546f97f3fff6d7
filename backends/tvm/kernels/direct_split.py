"""Direct convolution of eight bits in bytes on AVX2: weights whose pairs would saturate are split.

vpmaddubsw adds two products u8 * s8 in int16 with saturation. It acts only if both weights of a
pair have one sign and high * |w0 + w1| exceeds int16, which is rare where weights are bell-shaped.

Which two of four channels make a pair is free: rows are copied in three orders (``direct_staged``),
and every step takes the order in which the fewest of its pairs saturate. Where some still do, let

    w = c + r,    c = w, but where a pair does not fit the second weight is shortened until it does.

All steps multiply by c. Steps in which some r of a block of outputs is not zero come a second time,
by r. No pair saturates: those of c by construction, those of r because each has one weight that is
not zero. This takes two multiplications per 32 products, as int16 operands do, but half the loads
and half the additions, which would take the multipliers' ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.dot import Narrow, Wide, best_dot, multiplied_lanes
from gmpq.backends.tvm.kernels import direct_staged
from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.direct import Registers, Sums, constants_of
from gmpq.backends.tvm.kernels.direct_staged import Form, Stage
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, best_tiles, blocked, shape_of
from gmpq.backends.tvm.layout import GROUP
from gmpq.backends.tvm.script import Buffer, Expr, put, store, vector
from gmpq.ir import Conv2d

ORDERS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))  # of four channels: all ways to pair them
MOST_TILES = 6
MOST_REPEATED = 0.4  # of the steps; beyond, int16 operands are as fast
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The weights of a layer in two summands, laid out for a tile."""

    first: Array  # c: int8 [blocks, kH, kW, depth, vectors, lanes, 4]
    orders: Array  # of the four channels of a step, [blocks, kH, kW, depth]
    rest: Array  # r of the repeated steps: int8 [steps, vectors, lanes, 4]
    steps: Array  # bool [blocks, kH, kW, depth], those that are repeated

    @property
    def repeated(self) -> float:
        """The share of steps that are repeated."""
        return float(self.steps.mean())


def split(codes: Array, shape: Shape, tile: Tile, high: int) -> Split:
    """Return weights ``codes`` for input codes 0..``high`` in two summands that never saturate."""
    whole = blocked(codes, shape, tile)
    ordered = np.stack([whole[..., order] for order in ORDERS]).astype(np.int16)
    first = _fitted(ordered, high)
    cut = (ordered != first).sum(axis=(-1, -2, -3))  # [orders, blocks, kH, kW, depth]
    orders = cut.argmin(axis=0)
    chosen = np.ix_(*map(np.arange, orders.shape))
    first, ordered = (array[(orders, *chosen)] for array in (first, ordered))
    rest = ordered - first
    steps = np.asarray(rest.any(axis=(-1, -2, -3)))
    return Split(first.astype(np.int8), orders, rest[steps].astype(np.int8), steps)


def _fitted(weights: Array, high: int) -> Array:
    """Return weights [..., 4] whose pairs do not saturate: the second of a pair is shortened."""
    pairs = weights.reshape(*weights.shape[:-1], 2, 2)
    first, limits = pairs.copy(), (-(-INT16.min // high), INT16.max // high)
    low, most = (side(pairs[..., 0], 0) for side in (np.minimum, np.maximum))
    np.clip(pairs[..., 1], limits[0] - low, limits[1] - most, out=first[..., 1])
    return first.reshape(weights.shape)


def refuses(site: Site) -> str | None:
    """Return why splitting is of no use."""
    node, high = site.node, _high(site)
    assert isinstance(node, Conv2d)
    if not isinstance(best_dot(site.target, high, node.weight.codes), Wide):
        return "bytes multiply exactly as they are, or there is no vpmaddubsw"
    if node.groups > 1:
        return "needs one group"
    shape = shape_of(site, _dot(site))
    if (reason := direct_staged.refuses(shape, ORDERED)) is not None:
        return reason
    repeated = split(node.weight.codes, shape, Tile(1, 1, 1, False), high).repeated
    if repeated <= MOST_REPEATED:
        return None
    return f"{repeated:.0%} of the steps have pairs that saturate: pays up to {MOST_REPEATED:.0%}"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles, each with its best number of rows."""
    node, dot, high = site.node, _dot(site), _high(site)
    assert isinstance(node, Conv2d)
    shape, found = shape_of(site, dot), []
    shares: dict[int, float] = {}  # of repeated steps, by vectors of the tile
    for tile, direct in best_tiles(shape, dot, site.target, 2 * MOST_TILES):
        if tile.vectors not in shares:
            shares[tile.vectors] = split(node.weight.codes, shape, tile, high).repeated
        times = 1 + shares[tile.vectors]
        for stage in direct_staged.stages(shape, tile, ORDERED):
            total = direct_staged.cycles(site, shape, stage, ORDERED, direct * times)
            work = site.work(dot.instruction, times)
            found.append(Candidate(str(stage), total, partial(build, site, shape, stage), work))
    return tuple(sorted(found, key=lambda candidate: candidate.cycles)[:MOST_TILES])


FAMILY = Family("direct_split", (Conv2d,), candidates, refuses)


def _high(site: Site) -> int:
    q = site.inputs[0].q
    return max(q.high, q.zero_point)


def _dot(site: Site) -> Narrow:
    lanes = multiplied_lanes(site.target)
    assert lanes is not None
    return Narrow(lanes)


def build(site: Site, shape: Shape, stage: Stage) -> Call:
    """Return the call of one stage."""
    assert isinstance(site.node, Conv2d)
    dot, tile = _dot(site), stage.tile
    found = split(site.node.weight.codes, shape, tile, _high(site))
    blocks = len(found.steps)
    places = _places(shape, stage)[None] + found.orders * (stage.codes // GROUP)
    ends = np.cumsum([0, *found.steps.reshape(blocks, -1).sum(axis=1)])
    tables = (places, places[found.steps], ends)
    constants = (
        *constants_of(site, shape, dot.pack(found.first)),
        dot.pack(found.rest),
        *(table.astype(np.int32) for table in tables),
    )
    count = max(1, len(found.rest))
    more = (
        ("rest", "int8", count * tile.vectors * dot.elements),
        ("places", "int32", places.size),
        ("again", "int32", count),
        ("ends", "int32", blocks + 1),
    )
    accumulate = partial(_accumulate, places.size // blocks)
    function = direct_staged.kernel(shape, dot, stage, ORDERED, site.finish, accumulate, more)
    return site.call(function, constants)


def _places(shape: Shape, stage: Stage) -> Array:
    """Return the int32 from a pixel's first tap to the codes of each step, [kH, kW, depth]."""
    (dy, dx), (rows, columns) = shape.window.dilation, shape.window.kernel
    r, s, k = np.ix_(np.arange(rows), np.arange(columns), np.arange(shape.depth))
    taps = r * (dy * stage.pitch) + s * (dx * shape.x.stored)
    return np.asarray(taps // GROUP + k)


# --- the code ------------------------------------------------------------------------------------


def _write(stage: Stage, memory: Buffer, place: Expr, codes: Expr, lanes: int) -> None:
    """Write codes in all orders, one copy of the stage after the other."""
    for number, order in enumerate(ORDERS):
        lane = (np.arange(0, lanes, GROUP)[:, None] + np.array(order)).reshape(-1).tolist()
        words = T.reinterpret(vector("int32", lanes // GROUP), T.Shuffle([codes], lane))
        first = number * (stage.codes // GROUP)
        store(memory, first + T.floordiv(place, GROUP), words, lanes // GROUP)


ORDERED = Form(len(ORDERS), _write)


def _accumulate(steps: int, sums: Sums) -> Registers:
    """Return the accumulators by pixel and vector."""
    acc, block = sums.registers(f"int32x{sums.shape.lanes}"), sums.place.block
    rest, places, again, ends = sums.more
    sums.begin(acc)
    with T.serial(0, steps) as i:
        number = block * steps + i
        _multiply(sums, acc, places[number], sums.w, number)
    with T.serial(0, ends[block + 1] - ends[block]) as i:
        number = ends[block] + i
        _multiply(sums, acc, again[number], rest, number)
    return acc


def _multiply(sums: Sums, acc: Registers, place: Expr, w: Buffer, number: Expr) -> None:
    for slot, operands, weights in sums.products_at(acc, place, w, number):
        put(slot, sums.dot.accumulate(slot[0], operands, weights))
