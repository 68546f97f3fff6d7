"""Which steps of two outputs are added in int16, where the lanes of a vector are pixels.

A step is vpmaddubsw of four channels, at one tap, of some pixels: all lanes see the same weights.
An entry adds two steps for two outputs and widens each sum at once. Codes x lie in 0..top, top + 1
is a power of two, and

    x * w  =  top * w  +  (top - x) * (-w),    top - x  =  x XOR top,

so a code may be flipped if its weight's sign is, and top * w goes to a constant. A mask flips the
first code of either half of both steps of an entry, or none: an XOR applies it while it loads the
codes. An entry is exact, whatever the codes, if of the four weights of each output in either half

    top * (sum of the positive ones) <= 32767  and  top * (sum of the negative ones) >= -32768.

Two outputs that share a mask have to agree on it. Most steps are paired without a mask, and nearly
all others with one. An unpaired step makes an entry with another unpaired one, where it fits, or
alone; a step that does not fit for both outputs at once is taken
once for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.direct.pairing import find_pairs, in_chunks

OUTPUTS, STEPS = 2, 2  # of an entry
HALVES = 2  # of a step: the lanes of int16
INT16 = np.iinfo(np.int16)
UNPAIRED = -1  # partner of a step that has none
MOST_UNPAIRED = 64  # steps of a pair of which each is held against all others; more stay alone


@dataclass(frozen=True, slots=True, eq=False)
class EntryTable:
    """The entries of all pairs of outputs, those of a pair that need no mask before the others."""

    weights: Array  # int8 [entries, STEPS, OUTPUTS, 4]
    masks: Array  # uint8 [entries, 4], of the codes of both steps
    steps: Array  # [entries, STEPS]
    offsets: Array  # of those without and with a mask of each pair, a 0 before: [1 + 2 * pairs]
    constant: Array  # what flipping takes from the sums: int64 [pairs, OUTPUTS]


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """Which steps make an entry of a pair, and which outputs take each; a row is an entry."""

    pair: Array  # [entries]
    steps: Array  # [entries, STEPS]
    outputs: Array  # bool [entries, STEPS, OUTPUTS]


def entry_table(weights: Array, top: int) -> EntryTable:
    """Return the entries of ``weights``, int8 [pairs, OUTPUTS, steps, 4], without -128."""
    found = [_entries_of(some, top) for some in in_chunks(weights)]
    counts = np.concatenate([np.diff(part.offsets) for part in found])
    return EntryTable(
        np.concatenate([part.weights for part in found]),
        np.concatenate([part.masks for part in found]),
        np.concatenate([part.steps for part in found]),
        np.cumsum([0, *counts]),
        np.concatenate([part.constant for part in found]),
    )


def _entries_of(weights: Array, top: int) -> EntryTable:
    """Return the entries of pairs that are few enough to be looked at together."""
    room = _Room(weights.astype(np.int16), top)
    partner = np.full((len(weights), weights.shape[2]), UNPAIRED)
    for fits in (room.hold_unmasked, room.hold):
        _find_pairs(room, fits, partner)
    _find_more_pairs(room, partner)
    taken = _joined([_mated(partner), *_left(room, partner)])
    own = room.weights[taken.pair[:, None], :, taken.steps]  # [entries, STEPS, OUTPUTS, 4]
    kept = np.where(taken.outputs[..., None], own, 0)
    flipped = np.zeros((len(kept), 4), bool)
    flipped[:, ::HALVES] = _flips(kept, room.limits)
    each = flipped[:, None, None]
    constant = np.zeros((len(weights), OUTPUTS), np.int64)
    np.add.at(constant, taken.pair, top * np.where(each, kept, 0).sum(axis=(1, 3), dtype=np.int64))
    group = 2 * taken.pair + flipped.any(axis=1)
    order = np.argsort(group, kind="stable")
    return EntryTable(
        np.where(each, -kept, kept).astype(np.int8)[order],
        np.where(flipped, top, 0).astype(np.uint8)[order],
        taken.steps[order],
        np.searchsorted(group[order], np.arange(2 * len(weights) + 1)),
        constant,
    )


def _signed_sums(weights: Array) -> Array:
    """Return sums of positive and of negative weights [..., HALVES, flips, 2] of [..., 4]."""
    halves = weights.reshape(*weights.shape[:-1], HALVES, 1, 2)
    signed = halves * np.array([(1, 1), (-1, 1)], np.int16)
    return np.stack([np.maximum(signed, 0).sum(-1), np.maximum(-signed, 0).sum(-1)], axis=-1)


def _flips(kept: Array, limits: Array) -> Array:
    """Return which halves of entries [entries, STEPS, OUTPUTS, 4] must be flipped to be exact."""
    exact = (_signed_sums(kept).sum(axis=1) <= limits).all(axis=(1, -1))  # [entries, HALVES, flips]
    assert exact.any(axis=-1).all()
    return np.asarray(~exact[..., 0])


@dataclass(frozen=True, eq=False)  # no slots: cached properties live in the instance
class _Room:
    """What steps of ``weights``, int16 [pairs, OUTPUTS, steps, 4], take of the int16 lanes."""

    weights: Array
    top: int

    @cached_property
    def limits(self) -> Array:
        """Of the sums of the positive and of the negative weights: int64 [2]."""
        return np.array([INT16.max // self.top, -INT16.min // self.top])

    @cached_property
    def sums(self) -> Array:
        """Of either sign: int16 [pairs, steps, OUTPUTS, HALVES, flips, 2]."""
        return _signed_sums(self.weights).astype(np.int16).transpose(0, 2, 1, 3, 4, 5)

    @cached_property
    def sizes(self) -> Array:
        """Of both signs together: int16 [pairs, steps, OUTPUTS, HALVES]."""
        return np.asarray(self.sums[..., 0, :].sum(axis=-1, dtype=np.int16))

    def may_hold(self, pair: Array, one: Array, other: Array) -> Array:
        """Return bool [n]: which steps are no larger together than both limits."""
        sizes = self.sizes[pair, one] + self.sizes[pair, other]
        return np.asarray((sizes <= self.limits.sum()).all(axis=(-1, -2)))

    def holds(self, sums: Array) -> Array:
        """Return which sums [..., OUTPUTS, HALVES, flips, 2] one mask makes exact."""
        return np.asarray((sums <= self.limits).all(axis=(-1, -4)).any(axis=-1).all(axis=-1))

    def hold(self, pair: Array | int, one: Array | int, other: Array) -> Array:
        """Return bool [n]: which steps fit together, under some mask."""
        return self.holds(self.sums[pair, one] + self.sums[pair, other])

    def hold_unmasked(self, pair: Array, one: Array, other: Array) -> Array:
        """Return bool [n]: which steps fit together without a mask."""
        sums = self.sums[pair, one, ..., 0, :] + self.sums[pair, other, ..., 0, :]
        return np.asarray((sums <= self.limits).all(axis=(-1, -2, -3)))


Fits: TypeAlias = Callable[[Array, Array, Array], Array]


def _find_pairs(room: _Room, fits: Fits, partner: Array) -> None:
    """Pair steps that are UNPAIRED in ``partner`` [pairs, steps], where they fit."""

    def keep_fitting(pair: Array, steps: Array) -> tuple[Array, Array]:
        fit = room.may_hold(pair, *steps.T)
        fit[fit] = fits(pair[fit], *steps[fit].T)
        return pair[fit], steps[fit]

    sizes = np.abs(room.weights).sum(axis=(1, 3))
    pair, steps = find_pairs(sizes, partner == UNPAIRED, keep_fitting)
    _join(partner, pair, *steps.T)


def _join(partner: Array, pair: Array | int, one: Array | int, other: Array | int) -> None:
    partner[pair, one], partner[pair, other] = other, one


def _find_more_pairs(room: _Room, partner: Array) -> None:
    """Pair more steps: two unpaired ones split up a pair and take one of its steps each."""
    counts = (partner == UNPAIRED).sum(axis=1)
    for pair in np.nonzero((counts > 1) & (counts <= MOST_UNPAIRED))[0].tolist():
        alone = np.nonzero(partner[pair] == UNPAIRED)[0].tolist()
        every = np.arange(partner.shape[1])
        fits = {step: room.hold(pair, step, every) for step in alone}
        while alone:
            one = alone.pop()
            for other in alone:
                parted = (partner[pair] != UNPAIRED) & fits[one] & fits[other][partner[pair]]
                if parted.any():
                    first = int(parted.argmax())
                    _join(partner, pair, other, int(partner[pair, first]))
                    _join(partner, pair, one, first)
                    alone.remove(other)
                    break


def _mated(partner: Array) -> _Taken:
    pair, one = np.nonzero(partner > np.arange(partner.shape[1]))
    steps = np.stack([one, partner[pair, one]], axis=1)
    return _Taken(pair, steps, np.full((len(pair), STEPS, OUTPUTS), True))


def _left(room: _Room, partner: Array) -> tuple[_Taken, _Taken]:
    """Return entries of the steps that are alone, in pairs with few of them and in the others."""
    alone = partner == UNPAIRED
    few = alone.sum(axis=1) <= MOST_UNPAIRED
    found = [
        (pair, entry)
        for pair in np.nonzero(few & alone.any(axis=1))[0].tolist()
        for entry in _together(room, pair, np.nonzero(alone[pair])[0])
    ]
    pairs = np.array([pair for pair, _ in found], int)
    steps = np.array([[step for step, _ in entry] for _, entry in found], int)
    outputs = np.array([[who for _, who in entry] for _, entry in found], bool)
    some = _Taken(pairs, steps.reshape(-1, STEPS), outputs.reshape(-1, STEPS, OUTPUTS))
    return some, _single(room, *np.nonzero(alone & ~few[:, None]))


def _single(room: _Room, pair: Array, step: Array) -> _Taken:
    """Return entries of one step each, or two where the outputs do not agree on a mask."""
    both = room.holds(room.sums[pair, step])
    who = np.array([[True, True], [True, False], [False, True]])
    kinds = [(both, who[0]), (~both, who[1]), (~both, who[2])]
    outputs = np.zeros((sum(int(fit.sum()) for fit, _ in kinds), STEPS, OUTPUTS), bool)
    outputs[:, 0] = np.concatenate([np.tile(taken, (int(fit.sum()), 1)) for fit, taken in kinds])
    pairs, steps = (np.concatenate([each[fit] for fit, _ in kinds]) for each in (pair, step))
    return _Taken(pairs, np.stack([steps, steps], axis=1), outputs)


_Part: TypeAlias = tuple[int, tuple[bool, ...]]  # a step, and which outputs take it


def _together(room: _Room, pair: int, steps: Array) -> list[list[_Part]]:
    """Return entries of single steps of a pair, as few as a quick look finds."""
    parts: list[tuple[_Part, Array]] = []
    for step in steps:
        sums = room.sums[pair, step]
        both = [(True, True)] if room.holds(sums) else [(True, False), (False, True)]
        parts += [((int(step), who), sums * np.reshape(who, (-1, 1, 1, 1))) for who in both]
    found = []
    while parts:
        (part, sums), *parts = parts
        mate = next((n for n, (_, more) in enumerate(parts) if room.holds(sums + more)), None)
        other = (part[0], (False, False)) if mate is None else parts.pop(mate)[0]
        found.append([part, other])
    return found


def _joined(taken: list[_Taken]) -> _Taken:
    pair, steps, outputs = (
        np.concatenate([getattr(each, name) for each in taken])
        for name in ("pair", "steps", "outputs")
    )
    return _Taken(pair, steps, outputs)
