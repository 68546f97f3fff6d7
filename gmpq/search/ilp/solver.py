"""One (w, a) pair per layer, exactly: minimise a sum of losses while sums of costs stay in bounds.

With ``x[l, w, a]`` in {0, 1}: minimise ``sum loss * x`` where ``sum_{w, a} x[l, w, a] = 1`` for
each layer and ``sum cost * x <= limit`` for each row. A cost may be any function of a layer's pair,
so products of bits and measured times are linear too. HiGHS solves it, to the optimum.
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
from gmpq.search.ilp.silence import silent_stdout

Reals = NDArray[np.float64]
Picks = NDArray[np.int64]  # [L, 2]: the index of each layer's weight bits and input bits

# HiGHS takes a sum for within its bound, and a solution for the best, when they miss by 1e-6; on
# this scale that is 1e-10 of the bound, and of the largest loss
SCALE = 1e4
CORE = 2  # pairs per layer that are tried first
SLACK = 1e-9  # of a limit: what rounding in a sum of costs may exceed


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What each pair of bits loses in each layer; infinity forbids a pair."""

    losses: Reals  # [L, W, A]

    def __post_init__(self) -> None:
        """Refuse losses that are no numbers, and layers without a pair; raises ``SearchError``."""
        if np.isnan(self.losses).any() or np.isneginf(self.losses).any():
            raise SearchError("losses hold nan or -inf: measure them again")
        if not np.isfinite(self.losses).any(axis=(1, 2)).all():
            raise SearchError("a layer has no pair of bits that is allowed: allow more bits")


@dataclass(frozen=True, slots=True, eq=False)
class Row:
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

    def total(self, picks: Picks) -> float:
        """Return what ``picks`` cost, fixed layers included."""
        return self.fixed + float(_chosen(self.costs, picks).sum())

    def show(self, cost: float) -> str:
        """Return ``cost`` as a person reads it; rounded so that a bound never looks met."""
        return f"{cost / self.scale:.6g} {self.unit}".rstrip()


def solve(choice: Choice, rows: Sequence[Row]) -> Picks:
    """Return the picks of least loss that every row allows.

    Raises:
        SearchError: no picks are allowed; it is told which bound alone is too low, or that the
            bounds exclude each other.
    """
    _check_alone(choice, rows)
    found = _optimum(choice, rows)
    if found is None:
        raise SearchError(_conflict(choice, rows))
    return found


def loss_of(choice: Choice, picks: Picks) -> float:
    """Return the sum of the chosen losses."""
    return float(_chosen(choice.losses, picks).sum())


def smallest(choice: Choice, row: Row) -> float:
    """Return the least that any allowed picks cost in ``row``."""
    allowed = np.where(np.isfinite(choice.losses), row.costs, math.inf)
    return row.fixed + float(allowed.min(axis=(1, 2)).sum())


def largest(choice: Choice, row: Row) -> float:
    """Return the most that any allowed picks cost in ``row``."""
    allowed = np.where(np.isfinite(choice.losses), row.costs, -math.inf)
    return row.fixed + float(allowed.max(axis=(1, 2)).sum())


def _chosen(values: Reals, picks: Picks) -> Reals:
    chosen: Reals = values[np.arange(len(picks)), picks[:, 0], picks[:, 1]]
    return chosen


def _check_alone(choice: Choice, rows: Sequence[Row]) -> None:
    problems = []
    for row in rows:
        least = smallest(choice, row)
        if least > row.limit + SLACK * abs(row.limit):
            problems.append(
                f"{row.name}: the limit of {row.show(row.limit)} is out of reach: the smallest "
                f"possible is {row.show(least)}, {row.show(least - row.limit)} more"
            )
    if problems:
        raise SearchError(f"{'; '.join(problems)}: raise the limit, or allow fewer bits")


def _conflict(choice: Choice, rows: Sequence[Row]) -> str:
    """Return why rows that can each be met cannot be met together."""
    names = " and ".join(row.name for row in rows)
    told = [f"{names} can each be met alone but not together"]
    for row in rows:
        others = [other for other in rows if other is not row]
        allowed = np.where(np.isfinite(choice.losses), row.costs, math.inf)
        found = _optimum(Choice(allowed), others)
        if found is not None:
            told.append(
                f"within the other limits {row.name} is at least {row.show(row.total(found))}, "
                f"the limit is {row.show(row.limit)}"
            )
    return f"{'; '.join(told)}: raise one of them"


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """The 0/1 program over the pairs that can be part of a best solution, as arrays."""

    layer: Picks  # [n]: of each variable
    pair: Picks  # [n, 2]
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


def _optimum(choice: Choice, rows: Sequence[Row]) -> Picks | None:
    """Return the best picks; None if there are none.

    The multipliers of the relaxed program give a lower bound, and tell for each pair how much the
    bound grows when the pair is taken. Pairs of little growth are tried first; what they reach
    proves that no pair of larger growth is in a better solution. This is many times faster than
    branching over all pairs.
    """
    program = _program(choice, rows)
    relaxed = _relax(program)
    if relaxed is None:
        return None
    growth, bound = relaxed
    first = min(CORE * len(choice.losses), len(growth)) - 1
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


def _program(choice: Choice, rows: Sequence[Row]) -> _Program:
    keep = _undominated(choice, rows)
    layer, *pair = np.nonzero(keep)
    losses = (choice.losses - choice.losses.min(axis=(1, 2), keepdims=True))[keep]
    bounds = [row.limit - row.fixed for row in rows]
    costs = [row.costs[keep] / _divisor(bound) for row, bound in zip(rows, bounds, strict=True)]
    most = [bound / _divisor(bound) + SLACK for bound in bounds]
    return _Program(
        layer,
        np.stack(pair, axis=1),
        losses * (SCALE / _divisor(losses.max())),
        SCALE * np.array(costs).reshape(len(rows), len(layer)),
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
    rows = [LinearConstraint(program.costs, ub=program.most)] if len(program.most) else []
    with silent_stdout():
        result = milp(
            program.losses,
            integrality=np.ones(len(program.losses)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), *rows],
            options={"mip_rel_gap": 0.0},
        )
    if result.x is None:
        assert result.status == 2, result.message
        return None
    taken: NDArray[np.bool_] = result.x > 0.5
    return taken


def _divisor(value: float) -> float:
    return abs(value) or 1.0


def _undominated(choice: Choice, rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Return which pairs [L, W, A] no other pair of the layer beats in loss and in every cost."""
    layers = len(choice.losses)
    values = np.stack(
        [part.reshape(layers, -1) for part in (choice.losses, *(r.costs for r in rows))]
    )
    no_worse = (values[:, :, :, None] <= values[:, :, None, :]).all(axis=0)  # [L, by, pair]
    equal = (values[:, :, :, None] == values[:, :, None, :]).all(axis=0)
    earlier = np.triu(np.ones(equal.shape[1:], np.bool_), 1)  # of equals the first one stays
    beaten = (no_worse & (~equal | earlier)).any(axis=1)
    keep: NDArray[np.bool_] = np.isfinite(choice.losses) & ~beaten.reshape(choice.losses.shape)
    return keep
