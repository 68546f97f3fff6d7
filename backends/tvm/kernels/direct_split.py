"""Direct convolution of many bits in bytes on AVX2: weights are split, and steps are paired.

vpmaddubsw adds two products u8 * s8 in int16 with saturation, vpmaddwd by ones adds two such sums
in int32. A step is that for four channels at one tap. With codes in 0..high an int16 lane never
saturates while

    high * (sum of its positive weights) <= 32767  and  high * (sum of its negative ones) >= -32768.

- Where both weights of a lane exceed that together, which is rare where weights are bell-shaped,
  they are split, w = c + r: c keeps the larger one and r the other. All steps multiply by c; those
  in which some r of a block of outputs is not zero come a second time, by r. Each of the two has
  one weight in the lane, and |w| * high <= 128 * 255.
- Two steps, of whatever taps and channels, whose lanes keep the bounds together are added as int16
  and widened at once: three multiplications where two steps alone take four. The steps of a block
  may come in any order, so that most of them find a partner although few fit a given one.

The proof is in the constants: ``split`` returns no pair that it has not added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.dot import Narrow, multiplied_lanes
from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.direct import constants_of, kernel
from gmpq.backends.tvm.kernels.direct16 import longest_run
from gmpq.backends.tvm.kernels.direct_sums import Registers, Sums
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, best_tiles, blocked, shape_of
from gmpq.backends.tvm.layout import GROUP
from gmpq.backends.tvm.script import put
from gmpq.ir import Conv2d

MOST_TILES = 4  # of each number of vectors
MOST_VECTORS = 2  # more find too few partners
SHIFTS, ROUNDS = 24, 3  # of the search for partners
LONG_RUN = 8  # steps that direct16 adds before it widens; from there on it is faster
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True)
class Paired(Narrow):
    """Steps that multiply ``multiplied`` times on average: alone 2, in pairs 1.5."""

    multiplied: float = 2.0
    temporaries = 4  # operand, product, ones, and the weights of the second step

    @property
    def product_cycles(self) -> float:
        """Two ports multiply; additions, and codes from all over the image, get in their way."""
        return 0.62 * self.multiplied


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The steps of a layer in lists: the pairs of each block of outputs, and what is left alone."""

    weights: Array  # int8 [steps, vectors, lanes, 4]
    steps: Array  # which [kH, kW, depth] each is, counted in this order: [steps]
    ends: Array  # of the lists of each block, a 0 before them: [1 + 2 * blocks]
    multiplied: float  # multiplications per step of the layer


def split(codes: Array, shape: Shape, tile: Tile, high: int) -> Split:
    """Return weights ``codes`` for input codes 0..``high`` as steps that never saturate."""
    whole = blocked(codes, shape, tile).astype(np.int16)
    whole = whole.reshape(len(whole), -1, *whole.shape[-3:])  # [blocks, steps, vectors, lanes, 4]
    blocks, steps = whole.shape[:2]
    limits = np.array([INT16.max // high, -INT16.min // high])
    kept, rest = _summands(whole, limits)
    again = np.asarray(rest.any(axis=(-1, -2, -3)))
    items = np.concatenate([kept, rest], axis=1)
    exists = np.concatenate([np.full((blocks, steps), True), again], axis=1)
    partner = partners(_sums(items), exists, limits)
    found = [_lists(exists[block], partner[block]) for block in range(blocks)]
    order = [np.concatenate(both) for both in found]
    counts = [len(part) for both in found for part in both]
    total = sum(counts)
    return Split(
        np.concatenate([items[block, o] for block, o in enumerate(order)]).astype(np.int8),
        np.concatenate(order) % steps,
        np.cumsum([0, *counts]),
        (2 * total - sum(counts[::2]) / 2) / (blocks * steps),
    )


def _summands(weights: Array, limits: Array) -> tuple[Array, Array]:
    """Return c and r of weights [..., 4]."""
    pairs = weights.reshape(*weights.shape[:-1], 2, 2)
    over = (_signed(pairs) > limits).any(axis=-1)
    smaller = np.abs(pairs).argmin(axis=-1)
    moved = np.stack([over & (smaller == 0), over & (smaller == 1)], axis=-1)
    rest = np.where(moved, pairs, 0)
    return (pairs - rest).reshape(weights.shape), rest.reshape(weights.shape)


def _signed(pairs: Array) -> Array:
    """Return the sums of the positive, and of the negative weights, [..., 2]."""
    positive, negative = np.maximum(pairs, 0), np.maximum(-pairs, 0)
    return np.stack([positive.sum(axis=-1), negative.sum(axis=-1)], axis=-1).astype(np.int16)


def _sums(items: Array) -> Array:
    """Return the two sums of every int16 lane: [blocks, items, lanes, 2]."""
    return _signed(items.reshape(*items.shape[:2], -1, 2))


def partners(sums: Array, exists: Array, limits: Array) -> Array:
    """Return the item [blocks, items] that each item may be added to; -1 where there is none.

    Of those without a partner the heavier half is held against the lighter one, the heaviest
    against the lightest first, shifted again and again; then every other one against the rest.
    All blocks at once.
    """
    blocks, count = exists.shape
    found = np.full((blocks, count), -1)
    heavy_first = np.argsort(-sums.sum(axis=(2, 3), dtype=np.int64), axis=1, kind="stable")
    for number in range(ROUNDS):
        free = np.take_along_axis(exists & (found < 0), heavy_first, axis=1)
        order = np.take_along_axis(heavy_first, np.argsort(~free, axis=1, kind="stable"), axis=1)
        left = free.sum(axis=1)
        half = left // 2
        for shift in range(min(SHIFTS, int(half.max(initial=0)))):
            block, i = np.nonzero(np.arange(int(half.max())) < half[:, None])
            j = (i + shift) % half[block]
            halves = (i, left[block] - 1 - j) if number % 2 == 0 else (2 * i, 2 * j + 1)
            first, second = (order[block, side] for side in halves)
            open_ = (found[block, first] < 0) & (found[block, second] < 0)
            if not open_.any():
                break
            block, first, second = block[open_], first[open_], second[open_]
            fits = (sums[block, first] + sums[block, second] <= limits).all(axis=(1, 2))
            block, first, second = block[fits], first[fits], second[fits]
            found[block, first], found[block, second] = second, first
    return found


def _lists(exists: Array, partner: Array) -> tuple[Array, Array]:
    """Return the items of one block: pairs one after the other, then those alone."""
    items = np.arange(len(partner))
    first = items[partner > items]
    pairs = np.stack([first, partner[first]], axis=1).reshape(-1)
    return pairs, items[exists & (partner < 0)]


def refuses(site: Site) -> str | None:
    """Return why splitting is of no use."""
    assert isinstance(site.node, Conv2d)
    if "avx512vnni" in site.target.features:
        return "AVX-512 VNNI adds four products at once into int32"
    if multiplied_lanes(site.target) is None:
        return "needs AVX2"
    if site.node.groups > 1:
        return "needs one group"
    lanes = multiplied_lanes(site.target)
    assert lanes is not None
    run = longest_run(site.node.weight.codes, shape_of(site, lanes), _high(site))
    if run is None or run.steps < LONG_RUN:
        return None
    return f"int16 holds the sums of {run.steps} steps: direct16 adds more than pairs"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    node, lanes = site.node, multiplied_lanes(site.target)
    assert isinstance(node, Conv2d)
    assert lanes is not None
    shape, found = shape_of(site, lanes), []
    for vectors in range(1, min(MOST_VECTORS, shape.vectors) + 1):
        tile = Tile(1, 1, vectors, blocks_outside=False)
        parts = split(node.weight.codes, shape, tile, _high(site))
        dot = Paired(lanes, multiplied=parts.multiplied)
        tiles = best_tiles(shape, dot, site.target, MOST_TILES, vectors)
        work = site.work(dot.instruction, dot.multiplied / 2)
        found += [
            Candidate(str(tile), cycles, partial(build, site, shape, tile, parts), work)
            for tile, cycles in tiles
        ]
    return tuple(found)


FAMILY = Family("direct_split", (Conv2d,), candidates, refuses)


def _high(site: Site) -> int:
    q = site.inputs[0].q
    return max(q.high, q.zero_point, 1)


def build(site: Site, shape: Shape, tile: Tile, parts: Split) -> Call:
    """Return the call of a tile; ``parts`` are for its number of vectors."""
    dot, places = Paired(shape.lanes), _places(shape)[parts.steps]
    constants = (
        *constants_of(site, shape, dot.pack(parts.weights)),
        *(table.astype(np.int32) for table in (places, parts.ends)),
    )
    more = (("places", "int32", len(places)), ("ends", "int32", len(parts.ends)))
    function = kernel(shape, dot, tile, site.finish, _accumulate, more, steps=len(places))
    return site.call(function, constants)


def _places(shape: Shape) -> Array:
    """Return the int32 from a pixel's first tap to the codes of each step."""
    (dy, dx), (rows, columns) = shape.window.dilation, shape.window.kernel
    r, s, k = np.ix_(np.arange(rows), np.arange(columns), np.arange(shape.depth))
    taps = r * (dy * shape.x.row) + s * (dx * shape.x.stored)
    return np.asarray(taps // GROUP + k).reshape(-1)


# --- the code ------------------------------------------------------------------------------------


def _accumulate(sums: Sums) -> Registers:
    """Return the accumulators by pixel and vector."""
    acc, dot = sums.registers(f"int32x{sums.shape.lanes}"), sums.dot
    places, ends = sums.more
    start, middle, end = (ends[2 * sums.place.block + i] for i in range(3))
    sums.begin(acc)
    with T.serial(0, (middle - start) // 2) as i:
        steps = [start + 2 * i, start + 2 * i + 1]
        two = (sums.products_at(acc, places[step], sums.w, step) for step in steps)
        for (slot, *one), (_, *other) in zip(*two, strict=True):
            put(slot, slot[0] + dot.widen(dot.pairs(*one) + dot.pairs(*other)))
    with T.serial(0, end - middle) as i:
        step = middle + i
        for slot, operands, weights in sums.products_at(acc, places[step], sums.w, step):
            put(slot, dot.accumulate(slot[0], operands, weights))
    return acc
