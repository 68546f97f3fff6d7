"""Bits within bounds are the best ones, by trying all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.differentiable.assignment import Logits, bisect, is_within, within
from gmpq.search.ilp.bounds import Bounds
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.constraints import (
    bops,
    expected_bops,
    published_bops,
    size,
    total_bops,
    total_published_bops,
)
from gmpq.search.ilp.solver import Assignment, Constraint
from gmpq.search.ilp.space import Layer, Space

CANDIDATES = Candidates((2, 3, 4), (2, 4))


def learned(seed: int, layers: int = 4) -> Logits:
    rng = np.random.default_rng(seed)
    return Logits(CANDIDATES, rng.normal(size=(layers, 3)), rng.normal(size=(layers, 2)))


def network(macs: Sequence[int], kept: int = 0) -> Space:
    """Return searched layers, after one of one bit and ``kept`` MACs."""
    first = (Layer("first", kept, 1, LayerBits(1, 1)),) if kept else ()
    middle = (Layer(f"layer{i}", count, 10 + i) for i, count in enumerate(macs))
    return Space((*first, *middle), CANDIDATES.weight_bits, CANDIDATES.input_bits)


def cost(space: Space, assignment: Assignment) -> int:
    return total_bops(space, space.bits(assignment))


def least(space: Space) -> int:
    return cost(space, np.zeros((len(space.searched), 2), np.int64))


def score(logits: Logits, assignment: Assignment) -> float:
    """Return the sum of the chosen logits: log-probabilities but for a constant."""
    return sum(
        logits.weights[layer, weight] + logits.inputs[layer, read]
        for layer, (weight, read) in enumerate(assignment.tolist())
    )


def every() -> list[Assignment]:
    """Return all assignments of four layers."""
    pairs = list(itertools.product(range(3), range(2)))
    return [np.array(chosen) for chosen in itertools.product(pairs, repeat=4)]


@pytest.mark.parametrize("seed", range(6))
def test_bits_within_a_bound(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    logits, space = learned(seed), network(rng.integers(1, 50, 4).tolist(), kept=7)
    limit = least(space) + float(rng.random()) * least(space)
    best = max(score(logits, found) for found in every() if cost(space, found) <= limit)
    found = within(logits, [bops(space, limit)])
    assert cost(space, found) <= limit
    assert score(logits, found) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(6))
def test_all_bounds_hold_together(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    logits, space = learned(seed), network(rng.integers(1, 50, 4).tolist(), kept=7)
    chosen = every()[int(rng.integers(6**4))]
    limits: list[Constraint] = [
        bops(space, cost(space, chosen)),
        size(space, size(space, 0.0).total(chosen)),
    ]
    best = max(score(logits, found) for found in every() if is_within(found, limits))
    found = within(logits, limits)
    assert is_within(found, limits)
    assert score(logits, found) == pytest.approx(best)


def test_without_need_the_largest_logits_stay() -> None:
    logits, space = learned(0), network((1, 2, 3, 4))
    assert np.array_equal(within(logits, [bops(space, 16 * 10)]), logits.largest())


def test_the_smallest_bound_and_one_below() -> None:
    macs = (10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9)
    logits, space = learned(0), network(macs, kept=10**9)
    assert not within(logits, [bops(space, 41e9)]).any()
    with pytest.raises(SearchError, match=r"limit of 40.9 G is out of reach: .* possible is 41 G"):
        within(logits, [bops(space, 40.9e9)])


def test_published_bops() -> None:
    edge = LayerBits(8, 8)
    layers = (Layer("a", 5, 1, edge), Layer("b", 10, 1), Layer("c", 20, 1), Layer("d", 5, 1, edge))
    space = Space(layers, CANDIDATES.weight_bits, CANDIDATES.input_bits)
    bits = space.named([LayerBits(2, 3), LayerBits(2, 3)])
    assert total_bops(space, bits) == 640 + 180
    assert total_published_bops(space, bits) == pytest.approx(40 * 6)
    chosen = np.zeros((2, 2), np.int64)
    assert published_bops(space, 0.0).total(chosen) == pytest.approx(40 * 4)


def test_published_bops_do_not_count_a_last_layer_that_is_searched() -> None:
    logits, space = learned(0), network((10, 20, 30, 10))
    limit = total_published_bops(space, space.bits(np.zeros((4, 2), np.int64)))
    found = within(logits, Bounds(published_bops=limit).constraints(space))
    assert not found[1:3].any()
    assert np.array_equal(found[[0, 3]], logits.largest()[[0, 3]])


def test_fifty_layers_of_large_and_odd_costs() -> None:
    space = network(np.random.default_rng(0).integers(1, 1 << 40, 52).tolist())
    logits = learned(0, layers=52)
    limit = least(space) + 55 * max(layer.macs for layer in space.layers)
    found = within(logits, [bops(space, limit)])
    assert cost(space, found) <= limit
    again = within(logits, [bops(space, cost(space, found))])  # a bound that is met exactly
    assert cost(space, again) <= cost(space, found)
    assert score(logits, again) == pytest.approx(score(logits, found))


def test_expected_and_largest() -> None:
    logits = Logits(CANDIDATES, np.zeros((1, 3)), np.array([[0.0, np.log(3.0)]]))
    space = network((10,), kept=1)
    assert expected_bops(space, *logits.expected()) == pytest.approx(1 + 10 * 3 * 3.5)
    assert space.bits(logits.largest())["layer0"] == LayerBits(2, 4)


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
