"""From logits to bits: the largest logit of each layer, or the best that the bounds allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.solver import Assignment, Constraint, Losses, Reals, solve

Found = TypeVar("Found")

EXACT = 1e-12  # of a limit: what rounding in a sum of costs may exceed


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """What a search has learned: a logit per searched layer and candidate."""

    candidates: Candidates
    weights: Reals  # [L, W]
    inputs: Reals  # [L, A]

    def expected(self) -> tuple[Reals, Reals]:
        """Return the expected bits [L] of weights and inputs under the softmax."""
        return (
            np.exp(_log_softmax(self.weights)) @ np.array(self.candidates.weight_bits, np.float64),
            np.exp(_log_softmax(self.inputs)) @ np.array(self.candidates.input_bits, np.float64),
        )

    def largest(self) -> Assignment:
        """Return the assignment [L, 2] of the largest logits; of equal ones the fewest bits."""
        return np.stack([self.weights.argmax(1), self.inputs.argmax(1)], axis=1)

    def losses(self) -> Losses:
        """Return the negative log-probability of every pair."""
        weights, inputs = _log_softmax(self.weights), _log_softmax(self.inputs)
        return Losses(-(weights[:, :, None] + inputs[:, None, :]))


def within(logits: Logits, constraints: Sequence[Constraint]) -> Assignment:
    """Return the assignment [L, 2] of the largest sum of log-probabilities within ``constraints``.

    Raises:
        SearchError: no assignment is feasible.
    """
    losses, tightened = logits.losses(), list(constraints)
    while True:  # a second turn only where the solver's tolerance let a little too much through
        found = solve(losses, tightened)
        excess = [_excess(constraint, found) for constraint in constraints]
        if not any(excess):
            return found
        tightened = [
            replace(each, limit=each.limit - over)
            for each, over in zip(tightened, excess, strict=True)
        ]


def is_within(assignment: Assignment, constraints: Sequence[Constraint]) -> bool:
    """Return whether ``assignment`` [L, 2] meets all constraints."""
    return not any(_excess(constraint, assignment) for constraint in constraints)


def _excess(constraint: Constraint, assignment: Assignment) -> float:
    over = constraint.total(assignment) - constraint.limit
    return over if over > EXACT * abs(constraint.limit) else 0.0


def bisect(
    run: Callable[[float], Found],
    cost_of: Callable[[Found], float],
    limit: float,
    first: float,
    runs: int,
) -> Found:
    """Return the run of the highest cost within ``limit``, of ``runs`` runs at most.

    Runs get a weight of the complexity loss: ``first``, then 10 times more or less until the bound
    lies between two weights, then the geometric mean. If none is within the bound, it is the
    cheapest run.

    Args:
        run: a search with a weight.
        cost_of: what its policy costs.
        limit: the bound.
        first: the first weight.
        runs: the number of runs, at least 1.
    """
    low, high, weight = 0.0, math.inf, first
    found: list[Found] = []
    for _ in range(runs):
        found.append(run(weight))
        if cost_of(found[-1]) <= limit:
            high = weight
        else:
            low = weight
        weight = _between(low, high)
    within_limit = [each for each in found if cost_of(each) <= limit]
    return max(within_limit, key=cost_of) if within_limit else min(found, key=cost_of)


def _between(low: float, high: float) -> float:
    if low == 0.0:
        return high / 10
    return low * 10 if math.isinf(high) else math.sqrt(low * high)


def _log_softmax(logits: Reals) -> Reals:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normal: Reals = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normal
