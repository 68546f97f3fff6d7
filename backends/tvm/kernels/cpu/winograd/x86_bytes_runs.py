"""How many steps of a Winograd product in bytes are added in int16, position by position.

VPMADDUBSW (Intel SDM) adds two products u8 * s8 in a lane of int16, and saturates. Transformed
codes lie in 0..span, and weights are constants, so that the sum of a lane over a run of steps lies
between -span * (sum of its negative weights) and span * (sum of its positive ones), whatever the
codes. A run is legal if that fits int16 in every lane; sums on the way may wrap, since addition
modulo 2**16 is exact if its result fits, and no single pair saturates, being a part of such a sum.

Positions differ: at a corner of F(2x2) a weight is one tap, in the centre a sum of nine. So each
has its own run length. A run that all but a few lanes allow is legal too: these keep a part of
their weights, and the rest goes to overflow steps, which are added one by one,

    w = kept + overflow,    kept and overflow in -127..127.

An overflow step serves all outputs that are computed together, a group; all groups take as many as
the one with the most. ``x86_bytes_overflow`` takes the weights apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import chosen, padded
from gmpq.backends.tvm.target.cpu import GROUP

LONGEST_SHORT = 4  # steps of a run whose products are added tile by tile
LENGTHS = (1, 2, 3, 4, 16, 32, 64, 128, 256)
INT8_MAX, INT16_MAX = np.iinfo(np.int8).max, np.iinfo(np.int16).max
PER_CYCLE = 3.4  # instructions on vectors
LOAD, SHORT_LOAD = 0.15, 0.1  # cycles that a load gets in their way, in long and in short runs
WIDENED = 1.3  # cycles to widen an accumulator through memory
REMEMBERED = 2  # proofs of one layer, which is asked for weights on the fly, then for stored ones
MOST_OVERFLOW = 0.25  # of the steps; more would make the product slower than one of int16


@dataclass(frozen=True, slots=True)
class PositionRuns:
    """Steps of a run, and overflow steps of a group, by position."""

    lengths: tuple[int, ...]
    overflow_steps: tuple[int, ...]

    @property
    def evened(self) -> PositionRuns:
        """The same with equal overflow steps at all positions of one length: they share code."""
        pairs = [*zip(self.lengths, self.overflow_steps, strict=True)]
        return PositionRuns(
            self.lengths, tuple(max(m for k, m in pairs if k == n) for n in self.lengths)
        )

    def __str__(self) -> str:
        counted = sorted(Counter(self.lengths).items())
        text = "runs " + " and ".join(f"{count} of {length}" for length, count in counted)
        return (
            f"{text}, about {sum(self.overflow_steps)} extra" if any(self.overflow_steps) else text
        )


def first_steps(depth: int, length: int) -> Array:
    """Return the first step of every run, int64 [runs]; what is left over is the first run."""
    return np.array([0, *range(depth % length or length, depth, length)])


def cycles_of(length: int, depth: int, loads: float = 1.1) -> float:
    """Return the cycles of a run of ``length`` steps of ``depth``, for one accumulator.

    ``loads`` are those of a step, of codes and weights, that each accumulator has to bear.
    """
    if length <= LONGEST_SHORT:
        return (2 * length + 1) / PER_CYCLE + length * loads * SHORT_LOAD
    widened = 1 / PER_CYCLE if length == depth else WIDENED
    return 2 * length / PER_CYCLE + length * loads * LOAD + widened


def lane_limits(span: int) -> Array:
    """Return int64 [2]: what the positive and the negative weights of a lane may add up to."""
    return np.array([INT16_MAX, INT16_MAX + 1]) // max(span, 1)


def choose(
    proof: Proof, form: tuple[int, int], *, overflow_steps: bool, long: bool = False
) -> PositionRuns | None:
    """Return the runs of a layer that take the fewest cycles, or None.

    ``form`` are the lanes of a vector and the vectors of a group. Without ``overflow_steps`` every
    lane must keep its weights; with ``long`` no run is short: a single short one would keep
    register tiles small for the long ones of all other positions. None if some weights do not fit,
    or if too many steps overflow. How many are is an estimate, of how much of a run is too much
    for a lane.
    """
    (lanes, vectors), depth = form, -(-proof.weights.shape[2] // GROUP)
    found = {
        length: _of_groups(steps, vectors)
        for length, steps in _needed(proof, lanes).items()
        if not long or length > LONGEST_SHORT or length == depth
    }
    lengths, counts = [*found], np.stack([*found.values()])
    steps = depth * np.array([cycles_of(n, depth) / n for n in lengths])
    costs = steps[:, None] + counts * cycles_of(1, depth)
    if not overflow_steps:
        costs = np.where(counts > 0, np.inf, costs)
    if not np.isfinite(costs.min(axis=0)).all():
        return None
    best = costs.argmin(axis=0)
    needed = counts[best, np.arange(len(best))]
    if needed.sum() > MOST_OVERFLOW * depth * len(best):
        return None
    return PositionRuns(tuple(lengths[n] for n in best), tuple(needed.tolist())).evened


def _of_groups(needed: Array, vectors: int) -> Array:
    """Return about how many overflow steps the worst group needs, by position."""
    groups = needed[:, chosen(needed.shape[1], min(vectors, needed.shape[1]))]
    return np.asarray(groups.max(axis=2).sum(axis=2).max(axis=1))


@lru_cache(maxsize=REMEMBERED)
def _needed(proof: Proof, lanes: int) -> dict[int, Array]:
    """Return about how many steps must overflow, by length: [positions, vectors, runs]."""
    positions = [
        _needed_at(in_steps(weights[None], lanes)[0], lane_limits(int(span)))
        for weights, span in zip(proof.weights, proof.spans, strict=True)
    ]
    return {length: np.stack([found[length] for found in positions]) for length in positions[0]}


def _needed_at(split: Array, limits: Array) -> dict[int, Array]:
    """Return the same for weights [vectors, depth, lanes of int16, 2]: [vectors, runs]."""
    sums = np.stack([np.maximum(split, 0).sum(axis=-1), np.maximum(-split, 0).sum(axis=-1)], -1)
    wide = (np.abs(split) > INT8_MAX).any(axis=(-1, -2))
    depth, found = split.shape[1], {}
    for length in (*(n for n in LENGTHS if n < depth), depth):
        firsts = first_steps(depth, length)
        runs = np.add.reduceat(sums, firsts, axis=1, dtype=np.int32)
        over = np.maximum(runs - limits, 0) / np.maximum(runs, 1)  # the share that is too much
        steps = np.ceil(length * over.max(axis=(-1, -2))).astype(int)
        found[length] = np.maximum(steps, np.logical_or.reduceat(wide, firsts, axis=1))
    return found


def in_steps(weights: Array, lanes: int) -> Array:
    """Return weights [positions, O, I] as [positions, vectors, depth, lanes of int16, 2]."""
    vectors, depth = -(-weights.shape[1] // lanes), -(-weights.shape[2] // GROUP)
    whole = padded(weights, vectors * lanes, depth * GROUP)
    split = whole.reshape(len(weights), vectors, lanes, depth, 2, 2).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(split).reshape(len(weights), vectors, depth, 2 * lanes, 2)
