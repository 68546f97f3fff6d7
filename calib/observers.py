"""Observers: the range of real numbers that the codes of a value cover, from its statistics.

Each is a pure function of ``Statistics`` and bits; ranges differ with the bits. Quantization
extends every range to hold 0, which padding needs exactly (Jacob et al., "Quantization and training
of neural networks for efficient integer-arithmetic-only inference", CVPR 2018, section 2.1). Wu et
al., "Integer quantization for deep learning inference: principles and empirical evaluation",
arXiv:2004.09602, compare maximum, percentiles and entropy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.calib.statistics import Histogram, Statistics
from gmpq.errors import CalibrationError, closest

Range: TypeAlias = tuple[float, float]
Reals: TypeAlias = NDArray[np.float64]


class Observer(Protocol):
    """A rule that chooses the range of a value."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    def range(self, statistics: Statistics, bits: int) -> Range:
        """Return the lowest and the highest real number that codes of ``bits`` must reach."""


@dataclass(frozen=True, slots=True)
class MinMax:
    """The extremes of all batches, as torch's ``MinMaxObserver``."""

    name: ClassVar[str] = "minmax"

    def range(self, statistics: Statistics, bits: int) -> Range:
        """Return the smallest and the largest value."""
        return statistics.minimum, statistics.maximum


@dataclass(frozen=True, slots=True)
class MovingAverage:
    """Exponential moving averages of each batch's extremes.

    Jacob et al., CVPR 2018, section 3.1; torch's ``MovingAverageMinMaxObserver``.
    """

    name: ClassVar[str] = "moving-average"

    def range(self, statistics: Statistics, bits: int) -> Range:
        """Return the averages."""
        return statistics.average_minimum, statistics.average_maximum


@dataclass(frozen=True, slots=True)
class Percentile:
    """The part of the values between two percentiles; 99.99 cuts 0.01 % at each end."""

    name: ClassVar[str] = "percentile"
    percent: float = 99.99

    def __post_init__(self) -> None:
        """Refuse what is no percentile; raises ``CalibrationError``."""
        if not 50 < self.percent <= 100:
            raise CalibrationError(
                f"percentile {self.percent} must be above 50 and at most 100, for example 99.99"
            )

    def range(self, statistics: Statistics, bits: int) -> Range:
        """Return both percentiles, values spread evenly within a bin of the histogram."""
        cut = 1 - self.percent / 100
        found = _quantiles(statistics.histogram, np.array([cut, 1 - cut]))
        low, high = np.clip(found, statistics.minimum, statistics.maximum).tolist()
        return low, high


@dataclass(frozen=True, slots=True)
class Mse:
    """The range with the least squared error of the codes, clipping included.

    Nagel et al., "A white paper on neural network quantization", arXiv:2106.08295, section 3.1.
    """

    name: ClassVar[str] = "mse"

    def range(self, statistics: Statistics, bits: int) -> Range:
        """Return the best of a grid over both ends, refined at each end in turn."""
        low, high = _with_zero(statistics)
        lows, highs = ([f * end for f in _SHRINKS] if end else [0.0] for end in (low, high))
        best = _least(statistics.histogram, bits, list(product(lows, highs)))
        for _ in range(_ROUNDS):
            lower = [(f * best[0], best[1]) for f in _NUDGES if f * best[0] >= low]
            best = _least(statistics.histogram, bits, lower)
            upper = [(best[0], f * best[1]) for f in _NUDGES if f * best[1] <= high]
            best = _least(statistics.histogram, bits, upper)
        return best


@dataclass(frozen=True, slots=True)
class Entropy:
    """The range whose codes keep the most information: least Kullback-Leibler divergence.

    Migacz, "8-bit inference with TensorRT", GTC 2017: the distribution with its tails folded onto
    the ends against the same distribution spread evenly over each code's bins. One threshold cuts
    both ends.
    """

    name: ClassVar[str] = "entropy"

    def range(self, statistics: Statistics, bits: int) -> Range:
        """Return the best of 100 thresholds."""
        low, high = _with_zero(statistics)
        thresholds = (max(-low, high) * np.linspace(1.0, 0.01, 100)).tolist()
        candidates = [(max(low, -t), min(high, t)) for t in thresholds]
        losses = [_divergence(statistics.histogram, bits, c) for c in candidates]
        return candidates[int(np.argmin(losses))]


OBSERVERS: tuple[Observer, ...] = (MinMax(), MovingAverage(), Percentile(), Mse(), Entropy())

_SHRINKS = np.geomspace(1.0, 0.01, 20).tolist()
_NUDGES = (1.0, *np.geomspace(1.3, 1 / 1.3, 20).tolist())
_ROUNDS = 2


def find(name: str) -> Observer:
    """Return the observer called ``name``.

    Raises:
        CalibrationError: if there is none, with the nearest names.
    """
    for observer in OBSERVERS:
        if observer.name == name:
            return observer
    names = [observer.name for observer in OBSERVERS]
    raise CalibrationError(
        f"no observer '{name}'{closest(name, names)}: choose from {', '.join(names)}"
    )


def _with_zero(statistics: Statistics) -> Range:
    return min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)


def _least(histogram: Histogram, bits: int, candidates: list[Range]) -> Range:
    return candidates[int(np.argmin(_errors(histogram, bits, np.array(candidates))))]


def _errors(histogram: Histogram, bits: int, bounds: Reals) -> Reals:
    maximum = (1 << bits) - 1
    low, high = bounds[:, :1], bounds[:, 1:]  # [K, 1] each
    scale = np.where(high > low, (high - low) / maximum, 1.0)
    zero = np.clip(np.rint(-low / scale), 0, maximum)
    centres = histogram.centres()  # [n]
    steps = np.clip(np.rint(centres / scale), -zero, maximum - zero)
    error = steps * scale - centres
    means: Reals = (error * error) @ histogram.counts / histogram.counts.sum()
    return means


def _quantiles(histogram: Histogram, parts: Reals) -> Reals:
    total = np.concatenate([[0], np.cumsum(histogram.counts)])
    found: Reals = np.interp(parts * total[-1], total, histogram.edges())
    return found


def _divergence(histogram: Histogram, bits: int, bounds: Range) -> float:
    """Return KL(P || Q) in nats; infinite for fewer bins than codes."""
    first, last = (round(b / histogram.width) - histogram.first for b in bounds)
    first, last = max(first, 0), min(last, len(histogram.counts))
    bins, codes = last - first, 1 << bits
    if bins < codes:
        return float("inf")
    counts = _without_zeros(histogram)
    inside = counts[first:last].copy()
    folded = inside.copy()
    folded[0] += counts[:first].sum()
    folded[-1] += counts[last:].sum()
    code = np.arange(bins) * codes // bins
    filled = (folded > 0).astype(np.float64)
    sums, sizes = np.bincount(code, inside, codes), np.bincount(code, filled, codes)
    spread = (sums / np.maximum(sizes, 1))[code] * filled
    return _relative_entropy(folded / folded.sum(), spread / max(spread.sum(), 1.0))


def _without_zeros(histogram: Histogram) -> Reals:
    """Return the counts with the bin of 0 cut to its neighbours: 0 is a code in every range."""
    counts = histogram.counts.astype(np.float64)
    zero = -histogram.first
    if 0 <= zero < len(counts):
        neighbours = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < len(counts)]
        counts[zero] = min(counts[zero], max(neighbours, default=counts[zero]))
    return counts


def _relative_entropy(p: Reals, q: Reals) -> float:
    smallest = 1e-12  # a tail folded onto an empty code diverges, but stays comparable
    held = p > 0
    return float((p[held] * np.log(p[held] / np.maximum(q[held], smallest))).sum())
