"""What calibration remembers of a value: extremes, their moving averages, means and a histogram.

Histogram bins are ``2**exponent`` wide and aligned at 0, so that two histograms always merge
exactly: the finer one's bins are joined in pairs until the widths agree. A histogram therefore
grows to any range without a second look at the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp, ldexp

import numpy as np
from numpy.typing import NDArray

BINS = 4096  # at most; a merged histogram keeps more than half of them unless it holds one value
MOMENTUM = 0.9  # of the moving averages, per batch

_MANTISSA = 23  # bin edges are float32 numbers
_SMALLEST_EXPONENT = -100


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of values in bins; bin i covers ``[first + i, first + i + 1) * 2**exponent``."""

    exponent: int
    first: int
    counts: NDArray[np.int64]  # [n], n <= BINS

    @property
    def width(self) -> float:
        """Width of a bin."""
        return ldexp(1.0, self.exponent)

    def edges(self) -> NDArray[np.float64]:
        """Return the edges of the bins, [n + 1]."""
        return np.arange(self.first, self.first + len(self.counts) + 1) * np.float64(self.width)

    def centres(self) -> NDArray[np.float64]:
        """Return the middles of the bins, [n]."""
        return self.edges()[:-1] + self.width / 2


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Everything that the observers ask of a value, from one sweep over the data."""

    minimum: float
    maximum: float
    average_minimum: float  # exponential moving average over batches
    average_maximum: float
    histogram: Histogram
    means: NDArray[np.float64]  # [C], over batch and space
    images: int


def layout(low: float, high: float) -> tuple[int, int, int]:
    """Return exponent, first bin and number of bins of the finest histogram over ``low..high``."""
    magnitude = max(abs(low), abs(high), ldexp(1.0, _SMALLEST_EXPONENT))
    exponent = max(frexp(magnitude)[1] - _MANTISSA, _SMALLEST_EXPONENT)
    while True:
        first, last = (int(np.floor(ldexp(bound, -exponent))) for bound in (low, high))
        if last - first < BINS:
            return exponent, first, last - first + 1
        exponent += 1


def join(old: Statistics, new: Statistics) -> Statistics:
    """Return the statistics of the batches of ``old`` followed by the one batch of ``new``."""
    images = old.images + new.images
    return Statistics(
        minimum=min(old.minimum, new.minimum),
        maximum=max(old.maximum, new.maximum),
        average_minimum=MOMENTUM * old.average_minimum + (1 - MOMENTUM) * new.minimum,
        average_maximum=MOMENTUM * old.average_maximum + (1 - MOMENTUM) * new.maximum,
        histogram=merge(old.histogram, new.histogram),
        means=(old.means * old.images + new.means * new.images) / images,
        images=images,
    )


def merge(a: Histogram, b: Histogram) -> Histogram:
    """Return the histogram of the values of both."""
    exponent = max(a.exponent, b.exponent)
    while True:
        parts = [_coarsen(h, exponent) for h in (a, b)]
        first = min(part.first for part in parts)
        last = max(part.first + len(part.counts) for part in parts)
        if last - first <= BINS:
            break
        exponent += 1
    counts = np.zeros(last - first, np.int64)
    for part in parts:
        counts[part.first - first :][: len(part.counts)] += part.counts
    return Histogram(exponent, first, counts)


def _coarsen(h: Histogram, exponent: int) -> Histogram:
    indices = (h.first + np.arange(len(h.counts))) >> (exponent - h.exponent)
    first = int(indices[0])
    counts = np.zeros(int(indices[-1]) - first + 1, np.int64)
    np.add.at(counts, indices - first, h.counts)
    return Histogram(exponent, first, counts)
