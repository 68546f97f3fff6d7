"""Weights of a Winograd product in bytes, taken apart where a run does not fit int16.

What must be proved is proved by adding up (``x86_bytes_runs`` has the bounds): of every lane and
run the kept weights are reduced until their sums fit, and what was taken goes to overflow steps,
each of which fits alone. kept + overflow is the weight, and both are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import chosen
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_runs import (
    INT8_MAX,
    first_steps,
    in_steps,
    lane_limits,
)
from gmpq.backends.tvm.target.cpu import GROUP


@dataclass(frozen=True, slots=True, eq=False)
class SplitWeights:
    """The weights of a position as they are multiplied, by group of outputs."""

    kept: Array  # int8 [groups, depth, vectors, lanes * 4]
    overflow: Array  # int8 [groups, overflow steps, vectors, lanes * 4]
    steps: Array  # of the overflow: [groups, overflow steps]

    def filled(self, overflow_steps: int) -> SplitWeights:
        """Return the same padded to ``overflow_steps`` steps by zeros."""
        missing = overflow_steps - self.steps.shape[1]
        overflow = np.pad(self.overflow, ((0, 0), (0, missing), (0, 0), (0, 0)))
        return replace(self, overflow=overflow, steps=np.pad(self.steps, ((0, 0), (0, missing))))

    @classmethod
    def of(cls, weights: Array, span: int, form: tuple[int, int], length: int) -> SplitWeights:
        """Return weights [O, I] in runs of ``length``, for codes in 0..``span``.

        ``form`` are the lanes of a vector and the vectors of a group.
        """
        (lanes, vectors), limits = form, lane_limits(span)
        split = in_steps(weights[None], lanes)[0]  # [vectors, depth, lanes of int16, 2]
        members = split[chosen(len(split), vectors)].swapaxes(1, 2)
        count, depth = members.shape[:2]
        groups = members.reshape(count, depth, -1, 2).astype(np.int16)
        found = [_taken_apart(group, limits, length) for group in groups]
        steps = np.zeros((count, max(map(len, found))), np.int32)
        overflow = np.zeros((*steps.shape, *groups.shape[2:]), np.int8)
        for number, entries in enumerate(found):
            for n, (step, some) in enumerate(entries):
                steps[number, n], overflow[number, n] = step, some
        flat = (vectors, lanes * GROUP)
        kept = groups.astype(np.int8).reshape(count, depth, *flat)
        return cls(kept, overflow.reshape(*steps.shape, *flat), steps)


def _taken_apart(group: Array, limits: Array, length: int) -> list[tuple[int, Array]]:
    """Take from ``group`` [depth, lanes, 2] what does not fit; return it as steps and weights."""
    return [
        (first + step, overflow)
        for first, end in _problems(group, limits, length)
        for step, overflow in _relieve(group[first:end], limits)
    ]


def _problems(group: Array, limits: Array, length: int) -> list[tuple[int, int]]:
    """Return the first step and the end of runs of [depth, lanes, 2] that do not fit."""
    firsts = first_steps(len(group), length)
    runs = np.add.reduceat(_sums(group), firsts, axis=0, dtype=np.int32)
    wide = np.logical_or.reduceat((np.abs(group) > INT8_MAX).any(axis=(1, 2)), firsts)
    ends = [*firsts[1:].tolist(), len(group)]
    return [(int(firsts[n]), ends[n]) for n in np.flatnonzero((runs > limits).any((1, 2)) | wide)]


def _relieve(run: Array, limits: Array) -> list[tuple[int, Array]]:
    """Take from ``run`` [steps, lanes, 2] what does not fit; return it as steps and weights."""
    overflow, found = run - np.clip(run, -INT8_MAX, INT8_MAX), []
    run -= overflow
    while (over := np.maximum(_sums(run).sum(axis=0) - limits, 0)).any():
        taken = np.stack([_taken(*both, over, limits) for both in zip(run, overflow, strict=True)])
        helped = (_sums(taken) > 0).sum(axis=(1, 2))
        started = overflow.any(axis=(1, 2))
        best = max(range(len(run)), key=lambda n: (helped[n] > 0, started[n], helped[n]))
        if not helped[best]:  # a step may overflow twice
            found += _overflow_steps(overflow, limits)
            overflow[:] = 0
        run[best] -= taken[best]
        overflow[best] += taken[best]
    assert (np.abs(run) <= INT8_MAX).all()
    return found + _overflow_steps(overflow, limits)


def _overflow_steps(overflow: Array, limits: Array) -> list[tuple[int, Array]]:
    assert (np.abs(overflow) <= INT8_MAX).all()
    assert (_sums(overflow) <= limits).all()
    return [
        (int(n), overflow[n].astype(np.int8)) for n in np.flatnonzero(overflow.any(axis=(1, 2)))
    ]


def _sums(steps: Array) -> Array:
    """Return the sums of positive and negative weights, [..., lanes, 2], of [..., lanes, 2]."""
    return np.stack([np.maximum(steps, 0).sum(-1), np.maximum(-steps, 0).sum(-1)], axis=-1)


def _taken(step: Array, overflow: Array, over: Array, limits: Array) -> Array:
    """Return what a step [lanes, 2] gives of ``over`` [lanes, 2 signs], its weights in turn."""
    taken, room = np.zeros_like(step), limits - _sums(overflow)
    for sign, number in ((1, 0), (-1, 1)):
        need = np.minimum(over[:, number], room[:, number])
        for weight in range(2):
            free = INT8_MAX - np.abs(overflow[:, weight])
            some = np.clip(sign * step[:, weight], 0, np.minimum(need, free))
            taken[:, weight] += (sign * some).astype(step.dtype)
            need = need - some
    return taken
