"""Requantization by one fused multiplication and addition of the accumulator's own bits.

The bits of an int32 0x4B000000 + n are those of the float32 2**23 + n, for 0 <= n < 2**23. So an
accumulator that starts higher by the right constant needs no conversion: read as a float32 it is
anchor + acc, with an anchor of our choice, and

    fma(anchor + acc, m, b),    b = -float32(anchor * m),

is acc * m, but for the rounding error of b, and for rounding once where float32(acc) * m does.
Neither matters unless a tie lies between. Both ways to the codes are step functions that do not
decrease with acc, so they agree for all accumulators if they agree on both sides of each of the at
most 255 steps: that is checked, channel by channel, with the layer's constants. Among many anchors
those with the smallest error of b are tried first.
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
ANCHORS = (1 << 11, 1 << 17)  # that are looked at for a channel, and for one that is still open
TRIES = 3  # anchors that are checked
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FusedScale:
    """What the accumulator's start is raised by, and the addends, per channel."""

    raised: NDArray[np.int32]
    addend: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Accumulators [O, n] and their codes, by the definition."""

    acc: Array
    codes: Array


def fused_scale(low: Array, high: Array, factor: Array, q: QParams) -> FusedScale | None:
    """Return the constants that requantize every accumulator in low..high [O] exactly, or None."""
    if int((high - low).max()) >= ONE // 2 or not (factor > 0).all():
        return None
    sides = _sides_of_steps(low, high, factor, q)
    if sides is None:
        return None
    exact = factor.astype(np.float64)
    chosen = np.zeros(len(factor), np.int64)
    for count in ANCHORS:
        for channel in np.flatnonzero(chosen == 0):
            anchors = _anchors(int(low[channel]), int(high[channel]), exact[channel], count)
            codes = fused_codes(sides.acc[channel], anchors[:, None], exact[channel], q)
            agrees = (codes == sides.codes[channel]).all(axis=1)
            chosen[channel] = anchors[agrees.argmax()] if agrees.any() else 0
    if not chosen.all():
        return None
    return FusedScale((chosen - ONE + BITS).astype(np.int32), _addend(chosen, exact))


def fused_codes(acc: Array, anchor: Array, factor: float, q: QParams) -> Array:
    """Return the codes of ``acc`` as the fused instruction computes them.

    The product of two float32 and its sum with b are exact in float64: b is a multiple of the last
    bit of ``factor``, and the sum needs no more than 50 bits.
    """
    exact = (anchor + acc) * factor + _addend(anchor, factor).astype(np.float64)
    steps = np.rint(exact.astype(np.float32)) + np.float32(q.zero_point)
    return np.clip(steps, q.low, q.high).astype(np.uint8)


def _addend(anchor: Array, factor: float | Doubles) -> NDArray[np.float32]:
    addend: NDArray[np.float32] = -(anchor * factor).astype(np.float32)
    return addend


def _anchors(low: int, high: int, factor: float, count: int) -> Array:
    """Return the anchors of the smallest errors of b that leave room for low..high."""
    first, last = ONE - low, 2 * ONE - 1 - high
    pace = (last - first) // count | 1  # odd, so that all bits of the product change
    looked_at = first + pace * np.arange(min(count, (last - first) // pace))
    products = looked_at * factor
    error = np.abs(products - products.astype(np.float32))
    best: Array = looked_at[np.argpartition(error, TRIES)[:TRIES]]
    return best


def _sides_of_steps(low: Array, high: Array, factor: Array, q: QParams) -> _Sides | None:
    """Return accumulators on both sides of each step of the codes; None if a step is elsewhere."""
    before = np.arange(q.low, q.high)
    steps = (before - q.zero_point + 0.5) / factor.astype(np.float64)[:, None]
    near = np.clip(np.floor(steps), -(2.0**40), 2.0**40).astype(np.int64)[:, :, None]
    acc = np.clip(near + np.arange(-1, 3), low[:, None, None], high[:, None, None])  # [O, n, 4]
    codes = requantize(acc.astype(np.int32), factor[:, None, None], q.zero_point, q.low, q.high)
    below = (codes[:, :, 0] <= before) | (acc[:, :, 0] == low[:, None])
    above = (codes[:, :, -1] > before) | (acc[:, :, -1] == high[:, None])
    if not (below & above).all():
        return None
    return _Sides(acc.reshape(len(low), -1), codes.reshape(len(low), -1))
