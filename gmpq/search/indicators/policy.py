"""The policy of least loss within the bounds that a user gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gmpq.policy import ModelSpec, Policy, Provenance
from gmpq.search.ilp import baselines
from gmpq.search.ilp.bounds import Bounds
from gmpq.search.ilp.solver import Choice, loss_of, solve
from gmpq.search.indicators.indicators import Indicators, forbid_falling


@dataclass(frozen=True, slots=True)
class Rule:
    """How losses of weights and inputs become one, and which end of them is wanted."""

    alpha: float = 1.0  # the weight's part
    reverse: bool = False  # the worst policy that spends as much: a check of the losses
    forbid_falling: bool = False  # trust no loss that falls with the bits


def search(indicators: Indicators, bounds: Bounds, rule: Rule, model: ModelSpec) -> Policy:
    """Return the policy of least loss within ``bounds``.

    Raises:
        SearchError: nothing meets the bounds.
    """
    space = indicators.space
    choice, given = _choice(indicators, rule), bounds.rows(space)
    method = indicators.method
    if rule.reverse:
        method = f"{method} reversed"
        picks = solve(*baselines.reverse(choice, given))
    else:
        picks = solve(choice, given)
    details = {**indicators.details, "alpha": rule.alpha, "loss": loss_of(choice, picks)}
    provenance = Provenance(
        method, indicators.dataset, bounds.constraint(), indicators.seed, details
    )
    return Policy(space.bits(picks), model=model, provenance=provenance)


def _choice(indicators: Indicators, rule: Rule) -> Choice:
    if not rule.forbid_falling:
        return indicators.choice(rule.alpha)
    return replace(
        indicators,
        weight=forbid_falling(indicators.weight),
        read=forbid_falling(indicators.read),
    ).choice(rule.alpha)
