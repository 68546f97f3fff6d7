"""One (w, a) pair per layer, exactly: minimise a sum of losses while sums of costs stay in bounds.

With ``x[l, w, a]`` in {0, 1}: minimise ``sum loss * x`` where ``sum_{w, a} x[l, w, a] = 1`` for
each layer and ``sum cost * x <= limit`` for each constraint. A cost may be any function of a
layer's pair, so products of bits and measured times are linear too. HiGHS solves it to the optimum
(Huangfu and Hall, 2018; ``scipy.optimize.milp``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from gmpq.errors import SearchError
from gmpq.search.ilp.quiet_stdout import quiet_stdout

Reals = NDArray[np.float64]
Assignment = NDArray[np.int64]  # [L, 2]: the index of each layer's weight bits and input bits

# HiGHS takes a sum for within its bound, and a solution for the best, when they miss by 1e-6; on
# this scale that is 1e-10 of the bound, and of the largest loss
SCALE = 1e4
CORE = 2  # pairs per layer that are tried first
SLACK = 1e-9  # of a limit: what rounding in a sum of costs may exceed


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The loss of each pair of bits in each layer; infinity forbids a pair."""

    values: Reals  # [L, W, A]

    def __post_init__(self) -> None:
        """Refuse losses that are no numbers, and layers without a pair; raises ``SearchError``."""
        if np.isnan(self.values).any() or np.isneginf(self.values).any():
            raise SearchError("losses hold nan or -inf: measure them again")
        if not np.isfinite(self.values).any(axis=(1, 2)).all():
            raise SearchError("a layer has no pair of bits that is allowed: allow more bits")


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """A bound: the sum of the chosen ``costs`` and what ``fixed`` layers cost is at most ``limit``.

    Negative costs make it a lower bound. A person reads costs in ``unit``, which is ``scale`` of
    them: 1e9 BOPs as G.
    """

    name: str  # "BOPs"
    costs: Reals  # [L, W, A]
    limit: float
    fixed: float = 0.0
    unit: str = ""
    scale: float = 1.0

    def total(self, assignment: Assignment) -> float:
        """Return what ``assignment`` [L, 2] costs, fixed layers included."""
        return self.fixed + float(_chosen(self.costs, assignment).sum())

    def show(self, cost: float) -> str:
        """Return ``cost`` as a person reads it; rounded so that a bound never looks met."""
        return f"{cost / self.scale:.6g} {self.unit}".rstrip()


def solve(losses: Losses, constraints: Sequence[Constraint]) -> Assignment:
    """Return the assignment [L, 2] of least loss that every constraint allows.

    Raises:
        SearchError: no assignment is feasible; the message names each bound that is infeasible
            alone, or the bounds that conflict.
    """
    _check_alone(losses, constraints)
    found = _optimum(losses, constraints)
    if found is None:
        raise SearchError(_conflict(losses, constraints))
    return found


def loss_of(losses: Losses, assignment: Assignment) -> float:
    """Return the sum of the losses that ``assignment`` [L, 2] chooses."""
    return float(_chosen(losses.values, assignment).sum())


def smallest(losses: Losses, constraint: Constraint) -> float:
    """Return the least that any allowed assignment costs in ``constraint``."""
    allowed = np.where(np.isfinite(losses.values), constraint.costs, math.inf)
    return constraint.fixed + float(allowed.min(axis=(1, 2)).sum())


def largest(losses: Losses, constraint: Constraint) -> float:
    """Return the most that any allowed assignment costs in ``constraint``."""
    allowed = np.where(np.isfinite(losses.values), constraint.costs, -math.inf)
    return constraint.fixed + float(allowed.max(axis=(1, 2)).sum())


def _chosen(values: Reals, assignment: Assignment) -> Reals:
    chosen: Reals = values[np.arange(len(assignment)), assignment[:, 0], assignment[:, 1]]
    return chosen


def _check_alone(losses: Losses, constraints: Sequence[Constraint]) -> None:
    problems = []
    for constraint in constraints:
        least = smallest(losses, constraint)
        if least > constraint.limit + SLACK * abs(constraint.limit):
            problems.append(
                f"{constraint.name}: the limit of {constraint.show(constraint.limit)} is out of "
                f"reach: the smallest possible is {constraint.show(least)}, "
                f"{constraint.show(least - constraint.limit)} more"
            )
    if problems:
        raise SearchError(f"{'; '.join(problems)}: raise the limit, or allow fewer bits")


def _conflict(losses: Losses, constraints: Sequence[Constraint]) -> str:
    """Return why constraints that are feasible alone are not feasible together."""
    names = " and ".join(constraint.name for constraint in constraints)
    reasons = [f"{names} can each be met alone but not together"]
    for constraint in constraints:
        others = [other for other in constraints if other is not constraint]
        allowed = np.where(np.isfinite(losses.values), constraint.costs, math.inf)
        found = _optimum(Losses(allowed), others)
        if found is not None:
            reasons.append(
                f"within the other limits {constraint.name} is at least "
                f"{constraint.show(constraint.total(found))}, "
                f"the limit is {constraint.show(constraint.limit)}"
            )
    return f"{'; '.join(reasons)}: raise one of them"


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """The 0/1 program over the pairs that can be part of a best solution, as arrays."""

    layer: Assignment  # [n]: of each variable
    pair: Assignment  # [n, 2]
    losses: Reals  # [n], on SCALE
    costs: Reals  # [R, n], on SCALE
    most: Reals  # [R]

    def only(self, kept: NDArray[np.bool_]) -> _Program:
        """Return the program without the variables that are not ``kept``."""
        layer, pair, losses = self.layer[kept], self.pair[kept], self.losses[kept]
        return _Program(layer, pair, losses, self.costs[:, kept], self.most)

    def one_each(self) -> csr_array:
        """Return the matrix [L, n] whose product with a solution counts the pairs per layer."""
        count = len(self.layer)
        return csr_array((np.ones(count), (self.layer, np.arange(count))))


def _optimum(losses: Losses, constraints: Sequence[Constraint]) -> Assignment | None:
    """Return the best assignment; None if there is none.

    The multipliers of the relaxed program give a lower bound, and for each pair the growth of the
    bound when the pair is taken. Pairs of little growth are tried first; what they reach
    proves that no pair of larger growth is in a better solution. This is many times faster than
    branching over all pairs.
    """
    program = _program(losses, constraints)
    relaxed = _relax(program)
    if relaxed is None:
        return None
    growth, bound = relaxed
    first = min(CORE * len(losses.values), len(growth)) - 1
    reach = float(np.sort(growth)[first])
    while True:
        core = program.only(growth <= reach)
        taken = _branch(core)
        if taken is not None:
            gap = float(core.losses[taken].sum()) - bound + 1.0 / SCALE
            if gap <= reach or reach >= growth.max():
                return core.pair[taken]
            reach = gap
        elif reach >= growth.max():
            return None
        else:
            reach = float(growth.max())


def _program(losses: Losses, constraints: Sequence[Constraint]) -> _Program:
    keep = _undominated(losses, constraints)
    layer, *pair = np.nonzero(keep)
    excess = (losses.values - losses.values.min(axis=(1, 2), keepdims=True))[keep]
    bounds = [constraint.limit - constraint.fixed for constraint in constraints]
    costs = [
        constraint.costs[keep] / _divisor(bound)
        for constraint, bound in zip(constraints, bounds, strict=True)
    ]
    most = [bound / _divisor(bound) + SLACK for bound in bounds]
    return _Program(
        layer,
        np.stack(pair, axis=1),
        excess * (SCALE / _divisor(excess.max())),
        SCALE * np.array(costs).reshape(len(constraints), len(layer)),
        SCALE * np.array(most),
    )


def _relax(program: _Program) -> tuple[Reals, float] | None:
    """Return by how much each variable raises the lower bound, and the bound; None: infeasible."""
    one_each = program.one_each()
    layers = one_each.shape[0]
    result = linprog(
        program.losses, program.costs, program.most, one_each, np.ones(layers), method="highs-ds"
    )
    if result.x is None:
        assert result.status == 2, result.message  # infeasible; nothing here is unbounded
        return None
    prices = np.maximum(-result.ineqlin.marginals, 0)  # any prices give a bound, these the best
    reduced = program.losses + prices @ program.costs
    least = np.full(layers, np.inf)
    np.minimum.at(least, program.layer, reduced)
    growth: Reals = reduced - least[program.layer]
    return growth, float(least.sum() - prices @ program.most)


def _branch(program: _Program) -> NDArray[np.bool_] | None:
    """Return which variables the best solution takes; None if there is none."""
    one_each = program.one_each()
    limits = [LinearConstraint(program.costs, ub=program.most)] if len(program.most) else []
    with quiet_stdout():
        result = milp(
            program.losses,
            integrality=np.ones(len(program.losses)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), *limits],
            options={"mip_rel_gap": 0.0},
        )
    if result.x is None:
        assert result.status == 2, result.message
        return None
    taken: NDArray[np.bool_] = result.x > 0.5
    return taken


def _divisor(value: float) -> float:
    return abs(value) or 1.0


def _undominated(losses: Losses, constraints: Sequence[Constraint]) -> NDArray[np.bool_]:
    """Return which pairs [L, W, A] no other pair of the layer beats in loss and in every cost."""
    layers = len(losses.values)
    values = np.stack(
        [part.reshape(layers, -1) for part in (losses.values, *(r.costs for r in constraints))]
    )
    no_worse = (values[:, :, :, None] <= values[:, :, None, :]).all(axis=0)  # [L, by, pair]
    equal = (values[:, :, :, None] == values[:, :, None, :]).all(axis=0)
    earlier = np.triu(np.ones(equal.shape[1:], np.bool_), 1)  # of equals the first one stays
    beaten = (no_worse & (~equal | earlier)).any(axis=1)
    keep: NDArray[np.bool_] = np.isfinite(losses.values) & ~beaten.reshape(losses.values.shape)
    return keep
