"""The search for steps that int16 adds in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from gmpq.backends.tvm.kernels.base import Array

SHIFTS, ROUNDS = 24, 3
TOGETHER = 1 << 20  # weights that are looked at together: pairs of them are held in memory
# Of blocks and pairs of steps [pairs], [pairs, 2], those that fit, each pair in the order in which
# it does.
KeepFitting: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]


def in_chunks(weights: Array) -> Iterator[Array]:
    """Yield ``weights`` [blocks, ...], of any type, in parts whose pairs take little memory."""
    count = max(1, TOGETHER // max(1, weights[0].size))
    for first in range(0, len(weights), count):
        yield weights[first : first + count]


def find_pairs(sizes: Array, unpaired: Array, keep_fitting: KeepFitting) -> tuple[Array, Array]:
    """Return blocks int64 [pairs] and pairs int64 [pairs, 2] of unpaired steps that fit.

    Steps of ``sizes`` [blocks, steps] are ``unpaired`` or not, and none is in two pairs. Of the
    unpaired ones the heavier half is held against the lighter one, the heaviest against the
    lightest first, shifted again and again; then every other one against the rest. All blocks at
    once.
    """
    heavy_first = np.argsort(-sizes, axis=1, kind="stable")
    unpaired, found = unpaired.copy(), [(np.zeros(0, int), np.zeros((0, 2), int))]
    for number in range(ROUNDS):
        left = np.take_along_axis(unpaired, heavy_first, axis=1)
        order = np.take_along_axis(heavy_first, np.argsort(~left, axis=1, kind="stable"), axis=1)
        count = left.sum(axis=1)
        half = count // 2
        for shift in range(min(SHIFTS, int(half.max(initial=0)))):
            block, i = np.nonzero(np.arange(int(half.max())) < half[:, None])
            j = (i + shift) % half[block]
            sides = (i, count[block] - 1 - j) if number % 2 == 0 else (2 * i, 2 * j + 1)
            steps = np.stack([order[block, side] for side in sides], axis=1)
            open_ = unpaired[block[:, None], steps].all(axis=1)
            block, steps = keep_fitting(block[open_], steps[open_])
            unpaired[block[:, None], steps] = False
            found.append((block, steps))
    block, steps = (np.concatenate(part) for part in zip(*found, strict=True))
    return block, steps
