"""The best choice is the one that trying all choices finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gmpq.errors import SearchError
from gmpq.search.ilp.solver import Assignment, Constraint, Losses, loss_of, smallest, solve

LAYERS = 6


def every_assignment(weights: int, inputs: int) -> Assignment:
    """Return all assignments of six layers, [K, 6, 2]."""
    pairs = list(itertools.product(range(weights), range(inputs)))
    indices = np.stack(np.meshgrid(*[np.arange(len(pairs))] * LAYERS, indexing="ij"), axis=-1)
    found: Assignment = np.array(pairs)[indices.reshape(-1, LAYERS)]
    return found


ASSIGNMENTS = {shape: every_assignment(*shape) for shape in ((2, 2), (2, 3), (3, 2))}


def totals(values: np.ndarray, assignment: Assignment) -> np.ndarray:
    return sum(
        values[layer, assignment[:, layer, 0], assignment[:, layer, 1]] for layer in range(LAYERS)
    )


def instance(seed: int) -> tuple[Losses, list[Constraint], Assignment]:
    """Return a random program: one to three constraints, ties, forbidden pairs."""
    rng = np.random.default_rng(seed)
    shape = list(ASSIGNMENTS)[seed % len(ASSIGNMENTS)]
    size = (LAYERS, *shape)
    losses = rng.random(size) if seed % 4 else rng.integers(0, 4, size).astype(np.float64)
    if seed % 5 == 0:
        losses[rng.integers(LAYERS), 0, 0] = math.inf
    constraints = []
    for number in range(1 + seed % 3):
        costs = rng.integers(1, 50, size).astype(np.float64)
        reached = totals(costs, ASSIGNMENTS[shape])
        limit = np.quantile(reached, rng.choice([0.001, 0.02, 0.3, 1.0])) + 7.0
        constraints.append(Constraint(f"constraint{number}", costs, float(limit), fixed=7.0))
    return Losses(losses), constraints, ASSIGNMENTS[shape]


@pytest.mark.parametrize("tens", range(20))
def test_the_best_choice_is_found(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        losses, constraints, assignment = instance(seed)
        sums = totals(losses.values, assignment)
        for constraint in constraints:
            spent = totals(constraint.costs, assignment) + constraint.fixed
            sums = np.where(spent <= constraint.limit, sums, math.inf)
        if math.isinf(sums.min()):
            with pytest.raises(SearchError):
                solve(losses, constraints)
            continue
        found = solve(losses, constraints)
        assert loss_of(losses, found) == pytest.approx(sums.min(), abs=1e-9)
        assert all(constraint.total(found) <= constraint.limit for constraint in constraints)


def test_without_constraints_every_layer_takes_its_best() -> None:
    losses = np.random.default_rng(0).random((4, 3, 2))
    found = solve(Losses(losses), [])
    assert loss_of(Losses(losses), found) == pytest.approx(losses.min(axis=(1, 2)).sum())


def test_a_bound_may_be_met_exactly() -> None:
    costs = np.array([[[1.0, 3.0]], [[1.0, 3.0]]]) * 1e9
    losses = np.array([[[2.0, 1.0]], [[3.0, 1.0]]])
    assert solve(Losses(losses), [Constraint("BOPs", costs, 4e9)]).tolist() == [[0, 0], [0, 1]]


def two_layers() -> Losses:
    return Losses(np.array([[[4.0, 1.0]], [[4.0, 1.0]]]))


def test_a_bound_out_of_reach_tells_by_how_much() -> None:
    constraint = Constraint(
        "BOPs", np.array([[[2e9, 8e9]], [[2e9, 8e9]]]), 4e9, fixed=1e9, unit="G", scale=1e9
    )
    other = Constraint("size", np.array([[[1.0, 1.0]], [[1.0, 1.0]]]), 5.0)
    with pytest.raises(SearchError, match="BOPs: the limit of 4 G is out of reach") as raised:
        solve(two_layers(), [constraint, other])
    assert "the smallest possible is 5 G, 1 G more: raise the limit" in str(raised.value)
    assert "size" not in str(raised.value)
    assert smallest(two_layers(), constraint) == 5e9


def test_bounds_that_exclude_each_other_are_reported_together() -> None:
    falling = Constraint("BOPs", np.array([[[1.0, 9.0]], [[1.0, 9.0]]]), 10.0)
    rising = Constraint("latency", np.array([[[9.0, 1.0]], [[9.0, 1.0]]]), 9.0, unit="ms")
    with pytest.raises(SearchError, match="BOPs and latency can each be met alone") as raised:
        solve(two_layers(), [falling, rising])
    assert "within the other limits BOPs is at least 18, the limit is 10" in str(raised.value)
    assert "latency is at least 10 ms, the limit is 9 ms: raise one" in str(raised.value)


def test_losses_must_be_numbers() -> None:
    with pytest.raises(SearchError, match="hold nan"):
        Losses(np.full((1, 1, 1), math.nan))
    with pytest.raises(SearchError, match="no pair of bits"):
        Losses(np.full((1, 1, 1), math.inf))
