"""The policy of least loss within the bounds that a user gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gmpq.policy import ModelSpec, Policy, Provenance
from gmpq.search.ilp import baselines
from gmpq.search.ilp.bounds import Bounds
from gmpq.search.ilp.solver import Losses, loss_of, solve
from gmpq.search.indicators.indicators import Indicators, forbid_falling


@dataclass(frozen=True, slots=True)
class Objective:
    """How losses of weights and inputs become one, and which end of them is wanted."""

    alpha: float = 1.0  # the weight's part
    reverse: bool = False  # the worst policy that spends as much: a check of the losses
    forbid_falling: bool = False  # trust no loss that falls with the bits


def search(
    indicators: Indicators, bounds: Bounds, objective: Objective, model: ModelSpec
) -> Policy:
    """Return the policy of least loss within ``bounds``.

    Raises:
        SearchError: nothing meets the bounds.
    """
    space = indicators.space
    losses, given = _losses(indicators, objective), bounds.constraints(space)
    method = indicators.method
    if objective.reverse:
        method = f"{method} reversed"
        assignment = solve(*baselines.reverse(losses, given))
    else:
        assignment = solve(losses, given)
    details = {**indicators.details, "alpha": objective.alpha, "loss": loss_of(losses, assignment)}
    provenance = Provenance(method, indicators.dataset, bounds.limits(), indicators.seed, details)
    return Policy(space.bits(assignment), model=model, provenance=provenance)


def _losses(indicators: Indicators, objective: Objective) -> Losses:
    if not objective.forbid_falling:
        return indicators.losses(objective.alpha)
    return replace(
        indicators,
        weight=forbid_falling(indicators.weight),
        read=forbid_falling(indicators.read),
    ).losses(objective.alpha)
