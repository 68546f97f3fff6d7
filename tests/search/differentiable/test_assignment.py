"""Bits within a bound are the best ones, by trying all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.differentiable.assignment import Bill, Logits, bisect, within
from gmpq.search.differentiable.settings import Space

SPACE = Space((2, 3, 4), (2, 4))


def learned(seed: int, layers: int = 4) -> Logits:
    rng = np.random.default_rng(seed)
    return Logits(SPACE, rng.normal(size=(layers, 3)), rng.normal(size=(layers, 2)))


def score(logits: Logits, bits: tuple[LayerBits, ...]) -> float:
    """Return the sum of the chosen logits: log-probabilities but for a constant."""
    return sum(
        logits.weights[layer, SPACE.weights.index(pair.w)]
        + logits.activations[layer, SPACE.activations.index(pair.a)]
        for layer, pair in enumerate(bits)
    )


@pytest.mark.parametrize("seed", range(6))
def test_bits_within_a_bound(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    logits, bill = learned(seed), Bill(tuple(rng.integers(1, 50, 4).tolist()), fixed=7)
    pairs = [LayerBits(w, a) for w in SPACE.weights for a in SPACE.activations]
    least = bill.least(SPACE)
    bound = least + float(rng.random()) * least
    fitting = [bits for bits in itertools.product(pairs, repeat=4) if bill.of(bits) <= bound]
    best = max(score(logits, bits) for bits in fitting)
    found = within(logits, bill, bound)
    assert bill.of(found) <= bound
    assert score(logits, found) == pytest.approx(best)


def test_without_need_the_largest_logits_stay() -> None:
    logits, bill = learned(0), Bill((1, 2, 3, 4))
    assert within(logits, bill, 16 * 10) == logits.largest()


def test_the_smallest_bound_and_one_below() -> None:
    logits, bill = learned(0), Bill((10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9), fixed=10**9)
    assert within(logits, bill, 41e9) == (LayerBits(2, 2),) * 4
    with pytest.raises(SearchError, match=r"40.9 G is out of reach: .* 41.000000 G"):
        within(logits, bill, 40.9e9)


def test_published_bops() -> None:
    bill = Bill((10, 20), fixed=640, published_shares=(40 / 3, 80 / 3))
    bits = (LayerBits(2, 3), LayerBits(2, 3))
    assert bill.of(bits) == 640 + 180
    assert bill.published(bits) == pytest.approx(40 * 6)
    assert bill.from_published(40 * 6) == pytest.approx(640 + 180)


def test_published_bops_bound_nothing_where_the_last_layer_is_searched() -> None:
    with pytest.raises(SearchError, match="leave out the last layer, which is searched"):
        Bill((10, 20), published_shares=(30.0, 0.0)).from_published(1e3)


def test_fifty_layers_of_large_and_odd_costs() -> None:
    bill = Bill(tuple(np.random.default_rng(0).integers(1, 1 << 40, 52).tolist()))
    logits = learned(0, layers=52)
    limit = bill.least(SPACE) + 55 * max(bill.macs)
    found = within(logits, bill, limit)
    assert bill.of(found) <= limit
    again = within(logits, bill, bill.of(found))  # a bound that is met exactly
    assert bill.of(again) <= bill.of(found)
    assert score(logits, again) == pytest.approx(score(logits, found))


def test_expected_and_largest() -> None:
    logits = Logits(SPACE, np.zeros((1, 3)), np.array([[0.0, np.log(3.0)]]))
    assert Bill((10,), fixed=1).expected(*logits.expected()) == pytest.approx(1 + 10 * 3 * 3.5)
    assert logits.largest() == (LayerBits(2, 4),)


def counted(calls: list[float]) -> Callable[[float], float]:
    def run(weight: float) -> float:
        calls.append(weight)
        return 10 / weight

    return run


def test_bisection_closes_in_from_above() -> None:
    calls: list[float] = []
    best = bisect(counted(calls), lambda cost: cost, 50.0, first=1e-3, runs=8)
    assert calls[:4] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
    assert calls[4:] == pytest.approx([10**-0.5, 10**-0.75, 10**-0.625, 10**-0.6875], abs=1e-6)
    assert best == 10 / 10**-0.6875


def test_bisection_closes_in_from_below() -> None:
    calls: list[float] = []
    best = bisect(counted(calls), lambda cost: cost, 50.0, first=1.0, runs=3)
    assert calls == pytest.approx([1.0, 0.1, 10**-0.5])
    assert best == 10 / 10**-0.5


def test_bisection_that_fails_gives_the_cheapest() -> None:
    calls: list[float] = []
    assert bisect(counted(calls), lambda cost: cost, 1e-9, first=1.0, runs=2) == 1.0
