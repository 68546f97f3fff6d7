"""Which codes to flip, so that bytes multiply many bits exactly and are widened rarely.

vpmaddubsw adds two products u8 * s8 in an int16 lane with saturation. A step is that for four
channels at one tap: two lanes for each output. Codes x lie in 0..top, and top + 1 is a power of
two, so that top - x is x XOR top. With

    x * w  =  top * w  +  (top - x) * (-w)

any product of any lane may be flipped: its code by XOR, its weight by its sign; top * w is a
constant of the layer. A lane, of one step or of two that are added before they are widened, is
exact while

    top * (sum of its positive weights) <= 32767  and  top * (sum of its negative ones) >= -32768.

Of two weights of one sign that exceed that, one is flipped. The four weights of two steps must fall
into two halves that keep the bounds, in every lane of a block of outputs; where weights are
bell-shaped, most steps find another one for that. Pairs that need no XOR are taken first, then
those with one and with two; what is left is widened alone. No group is made without adding it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeAlias

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.direct.pairing import find_pairs, in_chunks

INT8, INT16 = np.iinfo(np.int8), np.iinfo(np.int16)
SIGNS = np.array([(1, 1), (-1, -1), (1, -1), (-1, 1)], np.int16)  # that two weights may get
NEVER = 1 << 12  # the sum of a weight that has no opposite
ALL_LANES = slice(None)
FEW = 4  # lanes that are looked at first: most pairs that do not fit fail in one of them


@dataclass(frozen=True, slots=True)
class StepGroup:
    """Steps that are widened at once; the last ``flipped`` of them have flipped codes."""

    steps: int
    flipped: int

    @property
    def vectors(self) -> int:
        """Vectors of weights, and of masks for XOR after them."""
        return self.steps + self.flipped

    @property
    def multiplications(self) -> int:
        """Multiplications of a vector of outputs."""
        return self.steps + 1

    @property
    def cycles(self) -> float:
        """Of a vector of outputs: two multiplications or three instructions a cycle, nearly."""
        return max(0.53 * (self.steps + 1), 0.32 * (2 * self.steps + 1 + self.flipped))


STEP_GROUPS = (StepGroup(2, 0), StepGroup(2, 1), StepGroup(2, 2), StepGroup(1, 0), StepGroup(1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class GroupTable:
    """All groups of one kind in one block of outputs."""

    steps: Array  # [groups, group.steps]
    vectors: Array  # int8 [groups, group.vectors, lanes, 2]: weights, then masks
    constant: Array  # what flipping takes from the sum of each lane: int64 [lanes]


GroupTables: TypeAlias = list[list[GroupTable]]  # by block of outputs and step group


def all_ones_mask(high: int) -> int:
    """Return the lowest number of ones in a row that is not below ``high``."""
    return (1 << high.bit_length()) - 1


def group_tables(weights: Array, top: int) -> GroupTables:
    """Return the groups of every block, for each of ``STEP_GROUPS``.

    ``weights`` are int16 [blocks, steps, lanes, 2], and codes lie in 0..``top``. No lane may hold
    -128 twice.
    """
    return list(chain.from_iterable(_tables_of(some, top) for some in in_chunks(weights)))


def _tables_of(weights: Array, top: int) -> GroupTables:
    """Return the groups of blocks that are few enough to be looked at together."""
    limits = np.array([INT16.max // top, min(-INT16.min // top, INT16.max)], np.int16)
    kept, flipped = (_signed_sums(weights, signs) for signs in (_own(weights), SIGNS))
    sums = _Sums(kept, flipped, np.abs(weights).sum(axis=-1, dtype=np.int16), limits)
    unpaired = np.full(weights.shape[:2], True)
    found = []  # by kind of group, then by block: [groups, group.steps]
    for group in STEP_GROUPS:
        taken = _pairs if group.steps == 2 else _singles
        steps = taken(sums, group, unpaired)
        for block, chosen in enumerate(steps):
            unpaired[block, chosen] = False
        found.append(steps)
    assert not unpaired.any()
    return [
        [
            _group_table(weights[block], sums, top, group, block, steps[block])
            for group, steps in zip(STEP_GROUPS, found, strict=True)
        ]
        for block in range(len(weights))
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """The sums of the positive and of the negative weights of each lane of a step."""

    kept: Array  # of the weights as they are: int16 [blocks, steps, lanes, 1, 2]
    flipped: Array  # with each of ``SIGNS``: int16 [blocks, steps, lanes, 4, 2]
    sizes: Array  # of both sums together: int16 [blocks, steps, lanes]
    limits: Array  # of both sums

    def of(self, group: StepGroup, step: int) -> Array:
        """Return [blocks, steps, lanes, n, 2]: the sums that one step of a group chooses from."""
        return self.flipped if step >= group.steps - group.flipped else self.kept

    def exact(
        self, group: StepGroup, block: Array | int, *steps: Array, lanes: slice = ALL_LANES
    ) -> Array:
        """Return [groups, lanes, choices of the first step, choices of the second or 1]."""
        first, *second = (self.of(group, k)[block, step, lanes] for k, step in enumerate(steps))
        total = first[..., None, :] + (second[0][..., None, :, :] if second else 0)
        positive, negative = (total[..., sign] <= self.limits[sign] for sign in (0, 1))
        return np.asarray(positive & negative)

    def fits(self, group: StepGroup, block: Array, *steps: Array) -> Array:
        """Return bool [groups]: which are exact in all lanes, by some choice in each."""
        size = sum(self.sizes[block, step] for step in steps)
        fit = np.asarray((size <= self.limits.sum()).all(axis=-1))  # the others need no look
        for lanes in (slice(FEW), slice(FEW, None)):
            few = [step[fit] for step in steps]
            exact = self.exact(group, block[fit], *few, lanes=lanes)
            fit[fit] = exact.any(axis=(-1, -2)).all(axis=-1)
        return fit


def _own(weights: Array) -> Array:
    """Return the signs of ``weights`` themselves, as ``SIGNS`` [..., 1, 2]."""
    return np.where(weights < 0, -1, 1).astype(np.int16)[..., None, :]


def _signed_sums(weights: Array, signs: Array) -> Array:
    signed = np.abs(weights)[..., None, :] * signs
    found = np.stack([np.maximum(signed, 0).sum(-1), np.maximum(-signed, 0).sum(-1)], axis=-1)
    found[(signed > INT8.max).any(axis=-1)] = NEVER
    return found.astype(np.int16)


def _singles(sums: _Sums, group: StepGroup, unpaired: Array) -> list[Array]:
    """Return the unpaired steps of every block that fit ``group`` alone, [groups, 1]."""
    block, step = np.nonzero(unpaired)
    fit = sums.fits(group, block, step)
    return [step[fit & (block == number)][:, None] for number in range(len(unpaired))]


def _pairs(sums: _Sums, group: StepGroup, unpaired: Array) -> list[Array]:
    """Return pairs of unpaired steps of every block that fit ``group``, [groups, 2]."""
    block, steps = find_pairs(sums.sizes.sum(axis=2), unpaired, partial(_keep_fitting, sums, group))
    return [steps[block == number] for number in range(len(unpaired))]


def _keep_fitting(sums: _Sums, group: StepGroup, block: Array, steps: Array) -> tuple[Array, Array]:
    """Return those of the pairs that fit, each in an order in which it does."""
    fit = sums.fits(group, block, *steps.T)
    ordered = np.where(fit[:, None], steps, steps[:, ::-1])
    if group.flipped == 1:
        fit = fit | sums.fits(group, block, *ordered.T)
    return block[fit], ordered[fit]


def _group_table(
    weights: Array, sums: _Sums, top: int, group: StepGroup, block: int, steps: Array
) -> GroupTable:
    """Return the groups of ``steps`` [groups, group.steps], with the first signs that fit."""
    exact = sums.exact(group, block, *steps.T)
    assert exact.any(axis=(-1, -2)).all()
    count = exact.shape[2] * exact.shape[3]
    chosen = exact.reshape(*exact.shape[:2], count).argmax(axis=-1)
    kept, flipped = weights[steps], np.zeros((*steps.shape, *weights.shape[1:]), bool)
    own = _own(weights)[..., 0, :][steps]
    choices = np.unravel_index(chosen, exact.shape[2:])
    for step in range(group.steps - group.flipped, group.steps):
        flipped[:, step] = SIGNS[choices[step]] != own[:, step]
    signed, masks = np.where(flipped, -kept, kept), np.where(flipped, top, 0)
    vectors = np.concatenate([signed, masks[:, group.steps - group.flipped :]], axis=1)
    constant = top * np.where(flipped, kept, 0).sum(axis=(0, 1, 3), dtype=np.int64)
    return GroupTable(steps, vectors.astype(np.int8), constant)
