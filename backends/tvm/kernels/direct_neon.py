"""Direct convolution on NEON without dot products: fewer bits, fewer widenings.

An accumulator is one pixel times one output channel: a vector whose lanes hold parts of the sum
over the codes of its window, sixteen a step, which lie side by side in memory. Products are added
in the narrowest lanes that provably hold their sums:

    acc8  = sum over a run of steps of x * w                mla: sixteen products
    acc16 = sum over a run of x * w, or of pairs of acc8    smlal: eight products, or sadalp
    acc32 = sum of pairs of acc16                           sadalp

and at the end four accumulators become one vector of four channels (``neon.across``). Weights are
constants, and codes lie in low..high, so that a lane's sum over a run has bounds whatever the
codes: the sums of min(low * w, high * w) and of max(low * w, high * w). A run is legal if they fit
its lanes everywhere in the layer (``neon_runs``); sums on the way may wrap, since addition modulo
2**8 or 2**16 is exact if its result fits.

Codes beyond 127 are multiplied less 128 (``dot_arm``). Where a row of taps lies side by side, as
with few channels, its steps run across pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar, TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm import neon
from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.direct import Registers, Sums, constants_of, kernel
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, blocked, shape_of
from gmpq.backends.tvm.kernels.neon_runs import Steps, longest_run
from gmpq.backends.tvm.script import Buffer, Expr, held, load, put, registers, splat, view
from gmpq.ir import Conv2d, Linear

LANES = 4  # channels of a vector of outputs
MOST_TILES = 8
SIGN = 128
SHORTEST = 4  # steps of a run in int8; below, mul and sadalp cost as much as smull and smlal

Product: TypeAlias = tuple[Expr, Expr]  # codes, weights
At: TypeAlias = tuple[Expr, Expr, Expr]  # kernel row, tap of it, step of that


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loops of a layer run over, and how long narrow sums may be."""

    bits: int  # of the processor's words
    shift: int  # what codes are multiplied less of: 0 or 128
    steps: Steps
    words: Steps  # a run of int16 sums
    bytes: Steps | None  # a run of int8 sums within it, if any

    lanes: ClassVar[int] = LANES
    vectors: ClassVar[int] = LANES  # of weights, for one vector of outputs
    elements: ClassVar[int] = neon.CODES
    dtype: ClassVar[str] = "int8"

    @property
    def instruction(self) -> str:
        """Of a step."""
        return "smull+smlal" if self.bytes is None else "mla"

    @property
    def step_cycles(self) -> float:
        """Instructions of one step of an accumulator."""
        if self.bytes is None:
            return 2 + 1 / self.words.total
        return 1 + 2 / self.bytes.total + 2 / self.words.total

    def __str__(self) -> str:
        within = "" if self.bytes is None else f" of {self.bytes.total} in int8"
        return f"runs of {self.words.total} in int16{within}"


# --- the plan ------------------------------------------------------------------------------------


def refuses(site: Site) -> str | None:
    """Return why NEON's multiplications do not pay or do not fit."""
    if neon.word_bits(site.target) is None:
        return "needs NEON"
    if "dotprod" in site.target.features:
        return "sdot adds sixteen products at once into int32"
    return None if _plans(site) else "some pair of products does not fit int16"


def _shape(site: Site) -> Shape:
    return shape_of(site, LANES)


def _plans(site: Site) -> tuple[Plan, ...]:
    """Return the legal plans: without sums in int8, and with them where few bits allow."""
    node, q, bits = site.node, site.inputs[0].q, neon.word_bits(site.target)
    assert isinstance(node, Conv2d | Linear)
    assert bits is not None
    high = max(q.high, q.zero_point)
    shift = SIGN if high >= SIGN else 0
    shape = _shape(site)
    rows = rows_of(node.weight.codes, shape, Tile(1, 1, 1, blocks_outside=False))
    steps = Steps(*rows.shape[1:4])
    ends = (-shift, high - shift)
    narrow = longest_run(rows, ends, np.int8)
    inner = (None, narrow) if narrow is not None and narrow.total >= SHORTEST else (None,)
    runs = [(longest_run(rows, ends, np.int16, within), within) for within in inner]
    return tuple(Plan(bits, shift, steps, words, within) for words, within in runs if words)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    shape = _shape(site)
    found = [
        Candidate(
            f"{tile}, {plan}",
            _cycles(shape, plan, tile),
            partial(build, site, shape, plan, tile),
            site.work(plan.instruction),
        )
        for plan, tile in product(_plans(site), _tiles(shape, site.target.registers))
    ]
    found.sort(key=lambda candidate: candidate.cycles)
    return tuple(found[:MOST_TILES])


def _tiles(shape: Shape, registers: int) -> Iterator[Tile]:
    """Yield the tiles whose accumulators, codes, weights and sums fit the registers."""
    most = 1 if shape.inputs_per_group < shape.x.channels else min(4, shape.vectors)
    for rows, columns, vectors in product((1, 2), range(1, 9), range(1, most + 1)):
        fits = rows * columns * (LANES * vectors + 1) + 4 <= registers
        if fits and rows <= shape.y.height and columns <= shape.y.width:
            yield Tile(rows, columns, vectors, blocks_outside=False)


def _cycles(shape: Shape, plan: Plan, tile: Tile) -> float:
    """Return predicted cycles: an instruction each, one a cycle, and loads beside them."""
    channels = LANES * tile.vectors
    tiles = -(-shape.y.height // tile.rows) * -(-shape.y.width // tile.columns)
    blocks = shape.x.batch * tiles * -(-shape.vectors // tile.vectors)
    step = tile.pixels * channels * plan.step_cycles + tile.pixels + channels
    return blocks * (plan.steps.total * step + 4 * tile.pixels * channels)


FAMILY = Family("direct_neon", (Conv2d, Linear), candidates, refuses)


def build(site: Site, shape: Shape, plan: Plan, tile: Tile) -> Call:
    """Return the call of one tile."""
    assert isinstance(site.node, Conv2d | Linear)
    rows = rows_of(site.node.weight.codes, shape, tile)
    accumulate = partial(_accumulate, plan)
    steps = len(rows) * plan.steps.total
    function = kernel(shape, plan, tile, site.finish, accumulate, steps=steps)
    return site.call(function, constants_of(site, shape, rows, plan.shift))


def rows_of(codes: Array, shape: Shape, tile: Tile) -> Array:
    """Return weights int8 [blocks, rows, columns, depth, channels, 16], as steps read them.

    Taps of a row that lie side by side are one column.
    """
    taps = blocked(codes, shape, tile).transpose(0, 1, 4, 5, 2, 3, 6)
    blocks, rows, vectors, lanes, columns, groups, group = taps.shape
    beside = shape.window.dilation[1] == 1 and groups * group == shape.x.stored
    apart = 1 if beside else columns
    flat = taps.reshape(blocks, rows, vectors * lanes, apart, -1)
    depth = -(-flat.shape[-1] // neon.CODES)
    whole = np.pad(flat, (*[(0, 0)] * 4, (0, depth * neon.CODES - flat.shape[-1])))
    split = whole.reshape(*flat.shape[:-1], depth, neon.CODES)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2, 5))


# --- the code ------------------------------------------------------------------------------------


def _accumulate(plan: Plan, sums: Sums) -> Registers:
    """Return the accumulators by pixel and vector."""
    count = sums.tile.pixels * sums.tile.vectors * LANES
    acc = _zeros(count, "int32x4")
    with T.grid(*plan.steps.over(plan.words)) as run:
        _add_words(plan, sums, acc, _first(plan.words, run))
    total = sums.registers("int32x4")
    sums.begin(total)
    pixels = sums.tile.pixels
    for (p, slots), n in product(enumerate(total), range(sums.tile.vectors)):
        four = [acc[(n * LANES + lane) * pixels + p][0] for lane in range(LANES)]
        put(slots[n], slots[n][0] + neon.across(four))
    return total


def _first(run: Steps, number: At) -> At:
    """Return the first step of a run."""
    row, column, step = (n * size for n, size in zip(number, run, strict=True))
    return row, column, step


def _add_words(plan: Plan, sums: Sums, acc: list[Buffer], first: At) -> None:
    """Add the products of one run of int16 sums."""
    if plan.words.total == 1:
        _add_widened(plan, sums, acc, first)
        return
    short = _zeros(len(acc), "int16x8")
    with T.grid(*plan.words.over(plan.bytes or Steps(1, 1, 1))) as inner:
        if plan.bytes is None:
            _add_halves(short, _products(plan, sums, _plus(first, inner)))
        else:
            _add_bytes(plan, sums, short, _plus(first, _first(plan.bytes, inner)))
    for slot, narrow in zip(acc, short, strict=True):
        put(slot, neon.pairs_added(plan.bits, slot[0], narrow[0], 4))


def _add_widened(plan: Plan, sums: Sums, acc: list[Buffer], step: At) -> None:
    """Add the products of one step, two in int16 and then at once in int32."""
    pixels = sums.tile.pixels
    products = _products(plan, sums, step)
    for first in range(0, len(acc), pixels):  # one channel at a time: its sums take registers
        short = _zeros(pixels, "int16x8")
        _add_halves(short, products[first : first + pixels])
        for slot, narrow in zip(acc[first:], short, strict=False):
            put(slot, neon.pairs_added(plan.bits, slot[0], narrow[0], 4))


def _add_halves(acc: list[Buffer], products: list[Product]) -> None:
    """Add the lower products of all accumulators, then the upper ones: no sum waits for itself."""
    for half in (neon.lower, neon.upper):
        for slot, (x, w) in zip(acc, products, strict=True):
            put(slot, slot[0] + neon.multiplied(half(x), half(w)))


def _add_bytes(plan: Plan, sums: Sums, acc: list[Buffer], first: At) -> None:
    """Add the products of one run of int8 sums to int16 ones."""
    assert plan.bytes is not None
    short = _zeros(len(acc), "int8x16")
    with T.grid(*plan.bytes) as step:
        for slot, (x, w) in zip(short, _products(plan, sums, _plus(first, step)), strict=True):
            put(slot, slot[0] + x * w)
    for slot, narrow in zip(acc, short, strict=True):
        put(slot, neon.pairs_added(plan.bits, slot[0], narrow[0], 8))


def _products(plan: Plan, sums: Sums, step: At) -> list[Product]:
    """Return sixteen codes and weights of a step for every accumulator: by channel and pixel."""
    shape, tile, (r, s, k) = sums.shape, sums.tile, step
    layout, window = shape.x, shape.window
    x = view(sums.x.data, "int8", layout.size_bytes)
    (sy, sx), (dy, dx) = window.stride, window.dilation
    first = sums.corner() + r * (dy * layout.row) + s * (dx * layout.stored) + k * neon.CODES
    codes = [
        load(x, first + row * sy * layout.row + column * sx * layout.stored, neon.CODES)
        for row, column in product(range(tile.rows), range(tile.columns))
    ]
    if plan.shift:
        highest = splat(T.int8(-SIGN), neon.CODES)
        codes = [T.bitwise_xor(each, highest) for each in codes]
    rows, columns, depth = plan.steps
    number = ((sums.place.block * rows + r) * columns + s) * depth + k
    channels = tile.vectors * LANES
    places = (number * channels + channel for channel in range(channels))
    weights = [load(sums.w, place * neon.CODES, neon.CODES) for place in places]
    return [(x, w) for w, x in product(held(weights), held(codes))]


def _plus(a: At, b: At) -> At:
    row, column, step = (m + n for m, n in zip(a, b, strict=True))
    return row, column, step


def _zeros(count: int, dtype: str) -> list[Buffer]:
    """Return accumulators that hold zeros."""
    kind, lanes = dtype.split("x")
    slots = registers(count, dtype)
    for slot in slots:
        put(slot, splat(T.Cast(kind, T.int32(0)), int(lanes)))
    return slots
