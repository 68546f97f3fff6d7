"""Figures that compare a network's outputs with expected ones.

    SQNR = 10 log10(sum(expected^2) / sum((found - expected)^2)) dB

A class's rank is the number of classes before it when they are sorted by falling value, equal
values by rising index: ties of a quantized output are so broken one way, and never count double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmpq.ir import FloatGraph, IntGraph, QParams, Shape

MOST_DB = 200.0  # stands for no error at all; rounding float32 alone leaves about 140 dB

Reals = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Energy:
    """Sums of squares of a tensor and of its error, over any number of images."""

    signal: float = 0.0
    noise: float = 0.0

    @classmethod
    def of(cls, expected: Reals, found: Reals) -> Energy:
        """Return the energies of ``expected`` and of its difference from ``found``, [...]."""
        exact = expected.astype(np.float64)
        error = found - exact
        return cls(float(np.vdot(exact, exact)), float(np.vdot(error, error)))

    def __add__(self, other: Energy) -> Energy:
        """Return the energies of both together."""
        return Energy(self.signal + other.signal, self.noise + other.noise)

    @property
    def sqnr_db(self) -> float:
        """The signal-to-quantization-noise ratio, within -200 and 200 dB."""
        if self.noise == 0:
            return MOST_DB
        if self.signal == 0:
            return -MOST_DB
        ratio = 10 * (math.log10(self.signal) - math.log10(self.noise))
        return max(-MOST_DB, min(MOST_DB, ratio))


def cosines(expected: Reals, found: Reals) -> Reals:
    """Return the cosine of each image's output [N, ...] with the expected one; 1 for two zeros."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (expected, found))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    same = np.where((a == b).all(axis=1), 1.0, 0.0)
    cosine: Reals = np.divide(products, lengths, out=same, where=lengths > 0)
    return cosine


def has_classes(shape: Shape) -> bool:
    """Return whether an output of ``shape`` scores classes: [N, C] with C of at least 2."""
    return len(shape) == 2 and shape[1] >= 2


def class_output(graph: FloatGraph | IntGraph) -> int | None:
    """Return the position of the first output of ``graph`` that scores classes, if there is one."""
    shapes = [graph.values[name].shape for name in graph.outputs]
    return next((index for index, shape in enumerate(shapes) if has_classes(shape)), None)


def largest(scores: Reals) -> NDArray[np.intp]:
    """Return the class [N] of the largest score of each image [N, C], the first of equal ones."""
    found: NDArray[np.intp] = scores.argmax(axis=1)
    return found


def ranks(scores: Reals, labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rank [N] of each image's label among its scores [N, C]; 0 is the first."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before: NDArray[np.intp] = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return before


def clipped_share(x: Reals, q: QParams) -> float:
    """Return the share, 0..1, of the numbers in ``x`` [...] outside the range of codes ``q``."""
    low, high = (q.low - q.zero_point - 0.5) * q.scale, (q.high - q.zero_point + 0.5) * q.scale
    return float(((x < low) | (x > high)).mean())
