from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmpq.calib.collect import summarize
from gmpq.calib.statistics import BINS, Histogram, Statistics, join, layout, merge

finite = st.floats(-(2.0**100), 2.0**100, width=32)


def _summary(values: NDArray[Any]) -> Statistics:
    return summarize("x", torch.from_numpy(values.astype(np.float32)))


def _batches(seed: int, count: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shape = (2, 3, 5, 7)
    spreads = 10 ** rng.uniform(-4, 4, count)
    return [(rng.normal(0, spread, shape) + spread).astype("f4") for spread in spreads]


@given(a=finite, b=finite)
def test_bins_cover_the_range_and_are_many(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    exponent, first, bins = layout(low, high)
    assert 1 <= bins <= BINS
    assert first * 2.0**exponent <= low
    assert high < (first + bins) * 2.0**exponent or low == high
    finest = np.spacing(np.float32(max(abs(low), abs(high))))
    assert bins >= BINS // 2 - 1 or 2.0**exponent <= 2 * finest or exponent == -100


@pytest.mark.parametrize("seed", range(6))
def test_joined_batches_are_the_statistics_of_all_values(seed: int) -> None:
    batches = _batches(seed, 6)
    found = reduce(join, map(_summary, batches))
    every = np.concatenate(batches)
    assert (found.minimum, found.maximum) == (every.min(), every.max())
    assert found.images == len(every)
    np.testing.assert_allclose(found.means, every.mean(axis=(0, 2, 3)), rtol=1e-4)
    histogram = found.histogram
    assert histogram.counts.sum() == every.size
    edges = histogram.edges()
    assert edges[0] <= every.min()
    assert every.max() <= edges[-1]
    expected = np.histogram(every, edges)[0]
    # torch.histc rounds: a value next to an edge may fall to the other side
    assert np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max() <= 2


def test_moving_averages_weigh_the_latest_batch_by_a_tenth() -> None:
    found = reduce(join, [_summary(np.full((1, 1), x)) for x in (1.0, 2.0, -3.0)])
    assert found.average_minimum == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * -3)
    assert found.average_minimum == found.average_maximum


@given(seeds=st.permutations(range(5)))
def test_the_order_of_merging_does_not_matter(seeds: list[int]) -> None:
    parts = [_histogram(seed) for seed in range(5)]
    expected = reduce(merge, parts)
    found = reduce(merge, [parts[seed] for seed in seeds])
    assert (found.exponent, found.first) == (expected.exponent, expected.first)
    np.testing.assert_array_equal(found.counts, expected.counts)


def test_merging_counts_every_value_once() -> None:
    fine = Histogram(-2, -3, np.array([1, 2, 3, 4]))  # -0.75 .. 0.25
    coarse = Histogram(0, 2, np.array([10, 20]))  # 2 .. 4
    found = merge(fine, coarse)
    assert (found.exponent, found.first) == (0, -1)
    assert found.counts.tolist() == [6, 4, 0, 10, 20]
    assert found.centres().tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e-30, 1e30])
def test_one_value_fills_one_bin(value: float) -> None:
    found = _summary(np.full((2, 3), value))
    assert found.histogram.counts.tolist() == [6]
    assert found.histogram.edges()[0] <= np.float32(value) <= found.histogram.edges()[1]


def test_more_values_than_float32_counts() -> None:
    tensor = torch.zeros(1, 1, (1 << 25) + 3)
    assert summarize("x", tensor).histogram.counts.tolist() == [(1 << 25) + 3]


def _histogram(seed: int) -> Histogram:
    return _summary(_batches(seed, 1)[0]).histogram
