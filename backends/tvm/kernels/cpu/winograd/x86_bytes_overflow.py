"""Weights of a Winograd product in bytes, taken apart where a run does not fit int16.

What must be proved is proved by adding up (``x86_bytes_runs`` has the bounds): of every lane and
run the kept weights are reduced until their sums fit, and what was taken goes to extra steps, each
of which fits alone. kept + extra is the weight, and both are bytes.
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
    most,
)
from gmpq.backends.tvm.kernels.layout import GROUP


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """The weights of a position as they are multiplied, by group of outputs."""

    kept: Array  # int8 [groups, depth, vectors, lanes * 4]
    extra: Array  # int8 [groups, extras, vectors, lanes * 4]
    steps: Array  # of the extra weights: [groups, extras]

    def filled(self, extras: int) -> Packed:
        """Return the same with so many extra steps, of zeros where there is nothing to add."""
        missing = extras - self.steps.shape[1]
        extra = np.pad(self.extra, ((0, 0), (0, missing), (0, 0), (0, 0)))
        return replace(self, extra=extra, steps=np.pad(self.steps, ((0, 0), (0, missing))))

    @classmethod
    def of(cls, weights: Array, span: int, form: tuple[int, int], length: int) -> Packed:
        """Return weights [O, I] in runs of ``length``, for codes in 0..``span``.

        ``form`` are the lanes of a vector and the vectors of a group.
        """
        (lanes, vectors), limits = form, most(span)
        split = in_steps(weights[None], lanes)[0]  # [vectors, depth, lanes of int16, 2]
        members = split[chosen(len(split), vectors)].swapaxes(1, 2)
        count, depth = members.shape[:2]
        groups = members.reshape(count, depth, -1, 2).astype(np.int16)
        found = [_taken_apart(group, limits, length) for group in groups]
        steps = np.zeros((count, max(map(len, found))), np.int32)
        extra = np.zeros((*steps.shape, *groups.shape[2:]), np.int8)
        for number, entries in enumerate(found):
            for n, (step, some) in enumerate(entries):
                steps[number, n], extra[number, n] = step, some
        flat = (vectors, lanes * GROUP)
        kept = groups.astype(np.int8).reshape(count, depth, *flat)
        return cls(kept, extra.reshape(*steps.shape, *flat), steps)


def _taken_apart(group: Array, limits: Array, length: int) -> list[tuple[int, Array]]:
    """Take from ``group`` [depth, lanes, 2] what does not fit; return it as steps and weights."""
    return [
        (first + step, extra)
        for first, end in _problems(group, limits, length)
        for step, extra in _relieve(group[first:end], limits)
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
    extra, found = run - np.clip(run, -INT8_MAX, INT8_MAX), []
    run -= extra
    while (over := np.maximum(_sums(run).sum(axis=0) - limits, 0)).any():
        taken = np.stack([_taken(*both, over, limits) for both in zip(run, extra, strict=True)])
        helped = (_sums(taken) > 0).sum(axis=(1, 2))
        started = extra.any(axis=(1, 2))
        best = max(range(len(run)), key=lambda n: (helped[n] > 0, started[n], helped[n]))
        if not helped[best]:  # a step may be extra twice
            found += _entries(extra, limits)
            extra[:] = 0
        run[best] -= taken[best]
        extra[best] += taken[best]
    assert (np.abs(run) <= INT8_MAX).all()
    return found + _entries(extra, limits)


def _entries(extra: Array, limits: Array) -> list[tuple[int, Array]]:
    assert (np.abs(extra) <= INT8_MAX).all()
    assert (_sums(extra) <= limits).all()
    return [(int(n), extra[n].astype(np.int8)) for n in np.flatnonzero(extra.any(axis=(1, 2)))]


def _sums(steps: Array) -> Array:
    """Return the sums of positive and negative weights, [..., lanes, 2], of [..., lanes, 2]."""
    return np.stack([np.maximum(steps, 0).sum(-1), np.maximum(-steps, 0).sum(-1)], axis=-1)


def _taken(step: Array, extra: Array, over: Array, limits: Array) -> Array:
    """Return what a step [lanes, 2] gives of ``over`` [lanes, 2 signs], its weights in turn."""
    taken, room = np.zeros_like(step), limits - _sums(extra)
    for sign, number in ((1, 0), (-1, 1)):
        need = np.minimum(over[:, number], room[:, number])
        for weight in range(2):
            free = INT8_MAX - np.abs(extra[:, weight])
            some = np.clip(sign * step[:, weight], 0, np.minimum(need, free))
            taken[:, weight] += (sign * some).astype(step.dtype)
            need = need - some
    return taken
