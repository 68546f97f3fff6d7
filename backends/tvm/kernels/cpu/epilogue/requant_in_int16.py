"""Requantization to few bits in int16, two accumulators a lane of 32 bits.

    code = clip((((saturated(acc * j + c) * m) >> 16) + b) >> s, low, high)

takes VPACKSSDW, VPMULHW, VPADDSW, VPSRAVW and VPACKUSWB: five instructions a pair of vectors where
float32 takes nine. All of j, c, m, b and s are per channel: j multiplies its weights, as far as
int8 has room, so that int16 is finer than a step of acc; c is added to the accumulator's start.

With t_k the least accumulator of code k by the definition, the code is at least k from t_k on if

    t_k * j + c  >=  (k * 2**s - b) * 2**16 / m  >  (t_k - 1) * j + c.

So c + b * 2**16 / m must lie in an interval per k, and constants exist for j, m and s if these have
a common number. Both ways to the codes are step functions that do not decrease with acc, saturation
included. So they agree for all accumulators if they agree on both sides of each step: that is
checked with the constants found, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import Sides, sides_of_steps
from gmpq.ir import QParams

WORD = 1 << 16
INT16, INT8 = np.iinfo(np.int16), np.iinfo(np.int8)
MARGIN = 8  # of int16, for c
INT32_SPAN = (1 << 31) - WORD  # of accumulators times j
LARGEST_CODE = 31  # with more steps, hardly any layer has constants for all channels
FAR = 2.0**40  # beyond all bounds
NEARBY = 64  # factors m that are tried on either side of the nearest one
TRIES = 12  # multiples j
Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Int16Scale:
    """The constants of every channel, int64 [O] each: j, c, m, b and s."""

    times: Integers
    raised: Integers
    multiplier: Integers
    addend: Integers
    shift: Integers


def int16_scale(
    low: Array, high: Array, factor: Array, q: QParams, largest_weight: Array
) -> Int16Scale | None:
    """Return the constants that requantize every accumulator in low..high exactly, or None.

    ``low``, ``high`` and ``largest_weight`` are int64 [O], ``factor`` float32 [O].
    """
    if not q.low < q.high <= LARGEST_CODE or not (factor > 0).all():
        return None
    sides = sides_of_steps(low, high, factor, q)
    if sides is None:
        return None
    steps, widest = _Steps.of(sides, low, q), np.maximum(np.abs(low), np.abs(high))
    in_bytes = np.maximum(INT8.max // np.maximum(largest_weight, 1), 1)
    most = np.minimum(np.minimum(in_bytes, INT32_SPAN // (widest + 1)), steps.most_times)
    if (most < 1).any():
        return None
    found, left = np.zeros((len(low), 5), np.int64), np.arange(len(low))
    for number in range(TRIES):
        times = np.maximum(most[left] - number, 1)
        some = _solved(steps.of_channels(left), factor[left].astype(np.float64), times, q)
        exact = (int16_codes(sides.acc[left], some, q) == sides.codes[left]).all(axis=1)
        found[left[exact]] = np.stack(_fields(some), axis=1)[exact]
        left = left[~exact]
        if not len(left):
            return Int16Scale(*found.T)
    return None


def int16_codes(acc: Array, scale: Int16Scale, q: QParams) -> Array:
    """Return uint8 codes of ``acc`` [O, n], as the instructions compute them."""
    times, raised, multiplier, addend, shift = (part[:, None] for part in _fields(scale))
    packed = np.clip(acc * times + raised, INT16.min, INT16.max)
    total = np.clip((packed * multiplier >> 16) + addend, INT16.min, INT16.max)
    return np.asarray(np.clip(total >> shift, q.low, q.high).astype(np.uint8))


def _fields(scale: Int16Scale) -> tuple[Integers, ...]:
    return (scale.times, scale.raised, scale.multiplier, scale.addend, scale.shift)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """The least accumulator of each code [O, n], whether it is crossed, and the lowest code [O]."""

    first: Integers
    crossed: NDArray[np.bool_]
    lowest: Integers

    @classmethod
    def of(cls, sides: Sides, low: Array, q: QParams) -> _Steps:
        """Return the steps to codes ``q.low + 1`` to ``q.high``."""
        codes = np.arange(q.low + 1, q.high + 1)
        acc, found = (part.reshape(len(low), len(codes), -1) for part in (sides.acc, sides.codes))
        reached = found >= codes[:, None]
        first = np.take_along_axis(acc, reached.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
        crossed = reached.any(axis=2) & (first > low[:, None])
        return cls(first, crossed, sides.codes.min(axis=1).astype(np.int64))

    @property
    def most_times(self) -> Integers:
        """Return the largest multiple of accumulators of which int16 holds all steps, [O]."""
        largest = np.where(self.crossed, np.abs(self.first) + 1, 1).max(axis=1)
        return np.asarray((INT16.max - MARGIN) // largest)

    def of_channels(self, channels: Array) -> _Steps:
        """Return the steps of some channels."""
        return _Steps(self.first[channels], self.crossed[channels], self.lowest[channels])


def _solved(steps: _Steps, factor: Array, times: Integers, q: QParams) -> Int16Scale:
    """Return constants for multiples ``times`` [O]; not all of them need be exact."""
    shift = _shifts(factor / times, q)
    nearest = np.rint(factor / times * (WORD << shift)).astype(np.int64)
    near = np.clip(nearest[:, None] + np.arange(-NEARBY, NEARBY + 1), 1, INT16.max)
    codes = np.arange(q.low + 1, q.high + 1) << shift[:, None]
    ends = codes[:, None] * (WORD / near[:, :, None]) - (steps.first * times[:, None])[:, None]
    crossed = steps.crossed[:, None]  # [O, near, codes]
    least = np.where(crossed, ends, -FAR).max(axis=2)
    most = np.where(crossed, ends + times[:, None, None], FAR).min(axis=2)
    best = (most - least).argmax(axis=1)[:, None]
    low, high, m = (np.take_along_axis(part, best, axis=1)[:, 0] for part in (least, most, near))
    middle = (low + high) / 2
    addend = np.floor(middle * m / WORD)
    raised = np.rint(middle - addend * (WORD / m)).astype(np.int64)
    addend = np.clip(addend, INT16.min, INT16.max).astype(np.int64)
    alike = ~steps.crossed.any(axis=1)  # all accumulators have one code: what they add is below 1
    only = (steps.lowest << shift) + (1 << shift >> 1)
    return Int16Scale(
        times,
        np.where(alike, 0, raised),
        np.where(alike, 1, m),
        np.where(alike, only, addend),
        shift,
    )


def _shifts(ratio: Array, q: QParams) -> Integers:
    """Return the largest shifts [O] with which a factor and all sums fit int16."""
    room = np.floor(np.log2(INT16.max / (q.high + 2)))
    found = np.clip(np.floor(np.log2(INT16.max / (ratio * WORD))), 1, room)
    return np.asarray(found.astype(np.int64))
