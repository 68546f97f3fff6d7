"""What several programs answer to the same images, counted.

A label is among the first five if fewer than five classes come before it, sorted by falling value
and equal values by rising index.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import add
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.accuracy.metrics import Energy, largest, ranks
from gmpq.backends.base import Tensor

FIRST = 5

Outputs: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many images one program answers as their labels or as the float network do."""

    first: int | None  # images whose label has the largest value; None: no classes, no labels
    first_five: int | None  # None also where there are no more classes than five
    agreeing: int | None  # images with the float network's largest class; None: no classes
    energies: tuple[Energy, ...]  # by output, against the float network's

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both sets of images."""
        return Tally(
            _sum(self.first, other.first),
            _sum(self.first_five, other.first_five),
            _sum(self.agreeing, other.agreeing),
            tuple(map(add, self.energies, other.energies)),
        )

    @property
    def sqnr_db(self) -> float:
        """The SQNR of the worst output."""
        return min(energy.sqnr_db for energy in self.energies)


def tally(
    outputs: Outputs, expected: Outputs, labels: NDArray[np.int64], classes: int | None
) -> Tally:
    """Return how a program answers some images.

    Args:
        outputs: of the program, [N, ...] each.
        expected: of the float network.
        labels: [N]; -1 where there is none.
        classes: the position of the output that scores classes, if there is one.
    """
    energies = tuple(map(Energy.of, expected, outputs))
    if classes is None:
        return Tally(None, None, None, energies)
    scores, known = outputs[classes], labels >= 0
    agreeing = int((largest(scores) == largest(expected[classes])).sum())
    if not known.any():
        return Tally(None, None, agreeing, energies)
    found = ranks(scores[known], labels[known])
    five = int((found < FIRST).sum()) if scores.shape[1] > FIRST else None
    return Tally(int((found == 0).sum()), five, agreeing, energies)


def same(a: Outputs, b: Outputs) -> NDArray[np.bool_]:
    """Return for each image [N] whether both programs return the same numbers."""
    equal = [(x == y).reshape(len(x), -1).all(axis=1) for x, y in zip(a, b, strict=True)]
    everywhere: NDArray[np.bool_] = np.logical_and.reduce(equal)
    return everywhere


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b
