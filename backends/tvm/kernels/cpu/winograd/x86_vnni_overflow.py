"""Overflow steps of vpdpbusd: what exceeds a byte of transformed weights is multiplied again.

Of a step, the weights of all vectors of a group by four channels, the product keeps bytes. Where
some weight w exceeds its byte k, the step is multiplied once more by w - k, in bytes too; if these
do not hold it, twice. Sums are int32 and wrap, so any split is exact, and the proof is

    k + (what the overflow steps of the step hold) = w,

which ``overflow_table`` ensures by construction. Trained kernels have few such steps: at six bits a
sum of nine taps exceeds a byte where they are alike.

A table in the setup holds, for each group and position, where its overflow steps begin, then the
step of each, then their weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import chosen, padded
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR

LEAST, MOST = np.iinfo(np.int8).min, np.iinfo(np.int8).max
LARGEST_SHARE = 0.3  # of all steps: beyond it a direct kernel multiplies less


@dataclass(frozen=True, slots=True)
class OverflowSteps:
    """How many steps of a layer overflow, of how many groups of outputs and positions."""

    steps: int
    positions: int
    groups: int

    @property
    def steps_at(self) -> int:
        """Where the table has the step of each, behind where those of a position begin."""
        return _whole_vectors(self.positions * self.groups + 1)

    @property
    def weights_at(self) -> int:
        """Where the table has their weights."""
        return self.steps_at + _whole_vectors(self.steps)

    def share(self, depth: int) -> float:
        """Return their share of all steps, of which a group and position has ``depth``."""
        return self.steps / (self.positions * self.groups * depth)

    def table_size(self, vectors: int) -> int:
        """Return the int32 of the table for groups of ``vectors`` vectors."""
        return self.weights_at + self.steps * vectors * VECTOR


def kept(weights: Array) -> Array:
    """Return int8 [positions, O, I]: the bytes that are nearest to ``weights``."""
    return np.asarray(np.clip(weights, LEAST, MOST).astype(np.int8))


def repeats(rest: Array, depth: int, all_vectors: int) -> Array:
    """Return how often each step of a vector overflows, int [positions, all_vectors, depth].

    ``rest`` [positions, O, I] is what the bytes of the weights leave.
    """
    whole = _by_step(rest, depth, all_vectors)
    high, low = whole.max(axis=(2, 4)), whole.min(axis=(2, 4))
    return np.asarray(np.maximum(-(-high // MOST), -(-low // LEAST)))


def count(times: Array, vectors: int) -> OverflowSteps:
    """Return the overflow steps of groups of ``vectors`` vectors.

    ``times`` is what ``repeats`` returns, int [positions, all_vectors, depth].
    """
    groups = chosen(times.shape[1], vectors)
    total = int(times[:, groups].max(axis=2).sum())
    return OverflowSteps(total, len(times), len(groups))


def overflow_table(rest: Array, depth: int, all_vectors: int, vectors: int) -> Array:
    """Return the table, int32 [table_size], of what the bytes of the weights leave.

    ``rest`` is [positions, O, I].
    """
    groups = chosen(all_vectors, vectors)
    whole = _by_step(rest, depth, all_vectors).transpose(1, 0, 3, 2, 4)[groups]
    left = whole.transpose(0, 2, 3, 1, 4, 5).astype(np.int16)  # group, position, step, vector, ...
    starts, steps, weights = [0], [], []
    for by_step in left.reshape(-1, *left.shape[2:]):
        for step in np.flatnonzero(by_step.any(axis=(1, 2, 3))):
            some = by_step[step]
            while some.any():
                taken = kept(some)
                steps.append(int(step))
                weights.append(taken)
                some = some - taken
        starts.append(len(steps))
    found = OverflowSteps(len(steps), len(rest), len(groups))
    table = np.zeros(found.table_size(vectors), np.int32)
    table[: len(starts)] = starts
    table[found.steps_at : found.steps_at + len(steps)] = steps
    if weights:
        table[found.weights_at :] = np.stack(weights).reshape(-1).view(np.int32)
    return table


def _by_step(rest: Array, depth: int, all_vectors: int) -> Array:
    """Return [positions, all_vectors, lanes, depth, group] of [positions, O, I]."""
    whole = padded(rest, all_vectors * VECTOR, depth * GROUP)
    return whole.reshape(len(rest), all_vectors, VECTOR, depth, GROUP)


def _whole_vectors(count: int) -> int:
    return -(-count // VECTOR) * VECTOR
