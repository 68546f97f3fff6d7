from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.calib.collect import summarize
from gmpq.calib.observers import (
    OBSERVERS,
    Entropy,
    MinMax,
    MovingAverage,
    Mse,
    Observer,
    Percentile,
    Range,
    find,
)
from gmpq.calib.statistics import Statistics, join
from gmpq.errors import CalibrationError
from gmpq.passes.ranges import encode

COUNT = 40_000


def _samples(kind: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(7)
    normal = rng.normal(0, 1, COUNT)
    samples = {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "long-tails": rng.standard_t(3, COUNT),
        "shifted": rng.gamma(2, 1, COUNT) - 0.5,
        "outlier": np.append(normal[1:], 60.0),
        "negative": -rng.exponential(2, COUNT),
    }
    return samples[kind].astype(np.float32)


KINDS = ("normal", "relu", "long-tails", "shifted", "outlier", "negative")


def _statistics(samples: NDArray[Any]) -> Statistics:
    return summarize("x", torch.from_numpy(samples.astype(np.float32).reshape(1, 1, -1)))


def _error(samples: NDArray[np.float32], bits: int, bounds: Range) -> float:
    """Return the mean squared error of the codes that quantization really makes."""
    q = encode("x", bits, lambda *_: bounds)
    codes = numerics.quantize(samples, q.scale, q.zero_point, q.low, q.high)
    real = numerics.dequantize(codes, q.scale, q.zero_point)
    return float(np.square(real.astype(np.float64) - samples).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("observer", OBSERVERS, ids=lambda observer: observer.name)
def test_ranges_lie_within_what_was_seen(observer: Observer, kind: str) -> None:
    statistics = _statistics(_samples(kind))
    for bits in range(1, 9):
        low, high = observer.range(statistics, bits)
        assert min(statistics.minimum, 0) <= low <= high <= max(statistics.maximum, 0)


def test_minmax_and_moving_average() -> None:
    statistics = join(_statistics(np.array([-1.0, 4.0])), _statistics(np.array([-3.0, 2.0])))
    assert MinMax().range(statistics, 8) == (-3, 4)
    assert MovingAverage().range(statistics, 8) == pytest.approx((-1.2, 3.8))


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
@pytest.mark.parametrize("kind", KINDS)
def test_percentile_equals_sorting(kind: str, percent: float) -> None:
    samples = _samples(kind)
    statistics = _statistics(samples)
    found = Percentile(percent).range(statistics, 8)
    expected = np.percentile(samples, [100 - percent, percent])
    np.testing.assert_allclose(found, expected, atol=2 * statistics.histogram.width, rtol=2e-3)


def test_percentile_100_is_minmax() -> None:
    statistics = _statistics(_samples("long-tails"))
    assert Percentile(100).range(statistics, 8) == MinMax().range(statistics, 8)


@pytest.mark.parametrize("percent", [0, 50, 100.1, float("nan")])
def test_percentile_refuses_what_is_none(percent: float) -> None:
    with pytest.raises(CalibrationError, match="must be above 50 and at most 100"):
        Percentile(percent)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_close_to_a_search_over_both_ends(kind: str, bits: int) -> None:
    samples = _samples(kind)
    statistics = _statistics(samples)
    found = _error(samples, bits, Mse().range(statistics, bits))
    lowest, highest = min(statistics.minimum, 0), max(statistics.maximum, 0)
    some = np.sort(samples)[::20]  # for the search alone
    grid = [
        (f * lowest, g * highest)
        for f in np.geomspace(0.02, 1, 40)
        for g in np.geomspace(0.02, 1, 40)
    ]
    best = min(grid, key=lambda bounds: _error(some, bits, bounds))
    assert found <= 1.05 * min(_error(samples, bits, b) for b in (best, (lowest, highest)))


@pytest.mark.parametrize("observer", [Mse(), Entropy()], ids=lambda observer: observer.name)
def test_fewer_bits_clip_more(observer: Observer) -> None:
    statistics = _statistics(_samples("long-tails"))
    widths = [high - low for low, high in (observer.range(statistics, b) for b in (2, 4, 8))]
    assert widths[0] < widths[1] < widths[2]


def test_entropy_cuts_an_outlier() -> None:
    low, high = Entropy().range(_statistics(_samples("outlier")), 8)
    assert 2 < high < 20
    assert low < 0


def test_entropy_keeps_an_even_distribution() -> None:
    even = np.linspace(0, 1, COUNT)
    assert Entropy().range(_statistics(even), 8) == pytest.approx((0, 1), abs=0.02)


def test_entropy_does_not_count_zeros() -> None:
    samples = _samples("shifted") + 0.5
    plain = Entropy().range(_statistics(samples), 4)
    sparse = Entropy().range(_statistics(np.append(samples, np.zeros(9 * COUNT))), 4)
    assert sparse == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("observer", OBSERVERS, ids=lambda observer: observer.name)
@pytest.mark.parametrize("value", [0.0, 2.5, -1e-6])
def test_constants_have_ranges(observer: Observer, value: float) -> None:
    low, high = observer.range(_statistics(np.full(9, value)), 4)
    assert low <= high
    assert min(low, 0) <= value + 1e-6
    assert max(high, 0) >= value - abs(value) * 0.01


def test_observers_are_found_by_name() -> None:
    assert [find(observer.name) for observer in OBSERVERS] == list(OBSERVERS)
    assert len({observer.name for observer in OBSERVERS}) == len(OBSERVERS)


def test_an_unknown_name_gets_its_neighbours() -> None:
    with pytest.raises(CalibrationError, match=r"no observer 'min-max' \(did you mean minmax"):
        find("min-max")
