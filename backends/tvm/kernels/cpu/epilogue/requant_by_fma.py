"""Requantization by one fused multiplication and addition of the accumulator's own bits.

The bits of an int32 0x4B000000 + n are those of the float32 2**23 + n, for 0 <= n < 2**23. So an
accumulator that starts higher by the right constant needs no conversion: read as a float32 it is
anchor + acc, with an anchor of our choice, and

    fma(anchor + acc, m, b),    b = -float32(anchor * m),

is acc * m, but for the rounding error of b, and for rounding once where float32(acc) * m does.
Neither matters unless a tie lies between. Both ways to the codes are step functions that do not
decrease with acc, so they agree for all accumulators if they agree on both sides of each of the at
most 255 steps: that is checked, channel by channel, with the layer's constants. Among many anchors
those with the smallest error of b are tried first. Where a tie of float32(acc) * m is none of the
exact product, an error of the right sign helps, or a neighbour of m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.base import Array
from gmpq.ir import QParams
from gmpq.numerics import requantize

ONE = 1 << 23  # from here to 2 * ONE, a float32 counts by one
BITS = 0x4B000000  # of the float32 ONE
SMALLEST = 3  # errors of b that are tried
OPEN = 16  # one anchor in this many must be open, at least
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FusedScale:
    """What the accumulator's start is raised by, the factors and the addends, per channel."""

    raised: NDArray[np.int32]
    factor: NDArray[np.float32]
    addend: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Search:
    """How many anchors are looked at, how many are tried besides the best, with which factors."""

    anchors: int
    spread: int
    neighbours: tuple[int, ...]  # of the factor, in units of its last bit


SEARCHES = (_Search(1 << 11, 0, (0,)), _Search(1 << 17, 64, (0, 1, -1, 2, -2)))


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Accumulators [..., n] and their codes, by the definition."""

    acc: Array
    codes: Array


def fused_scale(
    low: Array, high: Array, factor: Array, q: QParams, room: int = ONE
) -> FusedScale | None:
    """Return the constants that requantize every accumulator in low..high [O] exactly, or None.

    ``low`` and ``high`` are int64, ``factor`` float32 [O]. ``anchor + acc`` stays below
    ``ONE + room``.
    """
    if int((high - low).max()) >= room - room // OPEN or not (factor > 0).all():
        return None
    sides = sides_of_steps(low, high, factor, q)
    if sides is None:
        return None
    found = []
    for c, m in enumerate(factor):
        channel = Sides(sides.acc[c], sides.codes[c])
        constants = _constants(channel, int(low[c]), int(high[c]), m, q, room)
        if constants is None:
            return None
        found.append(constants)
    anchors, factors = (np.array(part) for part in zip(*found, strict=True))
    exact = factors.astype(np.float64)
    return FusedScale((anchors - ONE + BITS).astype(np.int32), factors, _addend(anchors, exact))


def _constants(
    sides: Sides, low: int, high: int, factor: np.float32, q: QParams, room: int
) -> tuple[int, np.float32] | None:
    """Return an anchor and a factor that agree on both sides of all steps of one channel."""
    for search in SEARCHES:
        for number in search.neighbours:
            nearby = (factor.view(np.int32) + np.int32(number)).view(np.float32)
            anchors = _anchors(low, high, float(nearby), search, room)
            codes = fused_codes(sides.acc, anchors[:, None], float(nearby), q)
            agrees = (codes == sides.codes).all(axis=1)
            if agrees.any():
                return int(anchors[agrees.argmax()]), nearby
    return None


def fused_codes(acc: Array, anchor: Array, factor: float, q: QParams) -> Array:
    """Return uint8 codes of ``acc``, both [..., n], as the fused instruction computes them.

    The product of two float32 and its sum with b are exact in float64: b is a multiple of the last
    bit of ``factor``, and the sum needs no more than 50 bits.
    """
    exact = (anchor + acc) * factor + _addend(anchor, factor).astype(np.float64)
    steps = np.rint(exact.astype(np.float32)) + np.float32(q.zero_point)
    return np.clip(steps, q.low, q.high).astype(np.uint8)


def _addend(anchor: Array, factor: float | Doubles) -> NDArray[np.float32]:
    addend: NDArray[np.float32] = -(anchor * factor).astype(np.float32)
    return addend


def _anchors(low: int, high: int, factor: float, search: _Search, room: int) -> Array:
    """Return anchors that leave room for low..high: of the smallest errors of b, then others."""
    first, last = ONE - low, ONE + room - 1 - high
    pace = (last - first) // search.anchors | 1  # odd, so that all bits of the product change
    looked_at = first + pace * np.arange(min(search.anchors, (last - first) // pace))
    products = looked_at * factor
    error = np.abs(products - products.astype(np.float32))
    best: Array = looked_at[np.argpartition(error, SMALLEST)[:SMALLEST]]
    others = np.linspace(0, len(looked_at) - 1, search.spread).astype(int)
    return np.concatenate([best, looked_at[others]])


def sides_of_steps(low: Array, high: Array, factor: Array, q: QParams) -> Sides | None:
    """Return accumulators [O, 4 * steps] on both sides of each step of the codes, four each.

    None if a step is elsewhere.
    """
    before = np.arange(q.low, q.high)
    steps = (before - q.zero_point + 0.5) / factor.astype(np.float64)[:, None]
    nearby = np.clip(np.floor(steps), -(2.0**40), 2.0**40).astype(np.int64)[:, :, None]
    acc = np.clip(nearby + np.arange(-1, 3), low[:, None, None], high[:, None, None])  # [O, n, 4]
    codes = requantize(acc.astype(np.int32), factor[:, None, None], q.zero_point, q.low, q.high)
    below = (codes[:, :, 0] <= before) | (acc[:, :, 0] == low[:, None])
    above = (codes[:, :, -1] > before) | (acc[:, :, -1] == high[:, None])
    if not (below & above).all():
        return None
    return Sides(acc.reshape(len(low), -1), codes.reshape(len(low), -1))
