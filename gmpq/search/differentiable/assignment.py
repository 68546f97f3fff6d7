"""From logits to bits: the largest logit of each layer, or the best that a bound on BOPs allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.differentiable.settings import Space
from gmpq.search.ilp.solver import Constraint, Losses, solve

Floats = NDArray[np.float64]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Bill:
    """What bits cost: MACs of the searched layers, and BOPs of the others at their fixed bits.

    The same in published BOPs: what ``w * a`` of the searched layers counts, and the others' part.
    """

    macs: tuple[int, ...]  # [L]
    fixed: int = 0
    published_shares: tuple[float, ...] = ()  # [L]
    published_fixed: float = 0.0

    def of(self, bits: tuple[LayerBits, ...]) -> int:
        """Return the BOPs of the network."""
        pairs = zip(self.macs, bits, strict=True)
        return self.fixed + sum(macs * pair.w * pair.a for macs, pair in pairs)

    def expected(self, weight_bits: Floats, activation_bits: Floats) -> float:
        """Return the BOPs at expected bits [L]."""
        searched = (np.array(self.macs, np.float64) * weight_bits * activation_bits).sum()
        return self.fixed + float(searched)

    def least(self, space: Space) -> int:
        """Return the BOPs with the fewest bits everywhere."""
        return self.of(self.fewest(space))

    def fewest(self, space: Space) -> tuple[LayerBits, ...]:
        """Return the fewest bits everywhere."""
        return (LayerBits(space.weights[0], space.activations[0]),) * len(self.macs)

    def published(self, bits: tuple[LayerBits, ...]) -> float:
        """Return the published BOPs of the network (``gmpq.passes.cost``)."""
        pairs = zip(self.published_shares, bits, strict=True)
        return self.published_fixed + sum(share * pair.w * pair.a for share, pair in pairs)

    def from_published(self, published: float) -> float:
        """Return the BOPs of all bits whose published BOPs are ``published``.

        Raises:
            SearchError: they differ, since the last layer is searched.
        """
        ratios = np.array(self.published_shares) / np.array(self.macs)
        if not np.allclose(ratios, ratios[0]):
            raise SearchError(
                "--published-bops: they leave out the last layer, which is searched in this "
                "network: give --bops"
            )
        return float((published - self.published_fixed) / ratios[0]) + self.fixed


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """What a search has learned."""

    space: Space
    weights: Floats  # [L, W]
    activations: Floats  # [L, A]

    def expected(self) -> tuple[Floats, Floats]:
        """Return the expected bits [L] of weights and inputs."""
        return (
            np.exp(_log_softmax(self.weights)) @ np.array(self.space.weights, np.float64),
            np.exp(_log_softmax(self.activations)) @ np.array(self.space.activations, np.float64),
        )

    def largest(self) -> tuple[LayerBits, ...]:
        """Return the bits of the largest logits; of equal ones the fewest bits."""
        pairs = zip(self.weights.argmax(1), self.activations.argmax(1), strict=True)
        space = self.space
        return tuple(LayerBits(space.weights[w], space.activations[a]) for w, a in pairs)


def check_bound(place: str, bops: float, least: float) -> None:
    """Pass a bound that some policy meets; raises ``SearchError``."""
    if bops < least:
        raise SearchError(
            f"{place}: {bops / 1e9:.6g} G is out of reach: the smallest possible is "
            f"{math.ceil(least / 1e3) / 1e6:.6f} G: raise it, or allow fewer bits"
        )


def within(logits: Logits, bill: Bill, bops: float) -> tuple[LayerBits, ...]:
    """Return the bits of the largest sum of log-probabilities that cost at most ``bops``.

    Raises:
        SearchError: no bits do.
    """
    space = logits.space
    check_bound("--bops", bops, bill.least(space))
    log_w, log_a = _log_softmax(logits.weights), _log_softmax(logits.activations)
    products = np.outer(space.weights, space.activations)  # [W, A]
    costs = np.array(bill.macs, np.float64)[:, None, None] * products
    losses, limit = Losses(-(log_w[:, :, None] + log_a[:, None, :])), bops
    while True:  # a second turn only where the solver's tolerance let a little too much through
        assignment = solve(losses, [Constraint("BOPs", costs, limit, bill.fixed, "G", 1e9)])
        bits = tuple(
            LayerBits(space.weights[w], space.activations[a]) for w, a in assignment.tolist()
        )
        excess = bill.of(bits) - bops
        if excess <= 0:
            return bits
        limit -= excess


def bisect(
    run: Callable[[float], Found],
    bops_of: Callable[[Found], float],
    bops: float,
    first: float,
    runs: int,
) -> Found:
    """Return the run of at most ``bops`` that costs the most, of ``runs`` runs at most.

    Runs get a weight of the complexity loss: ``first``, then 10 times more or less until the bound
    lies between two weights, then the geometric mean. If none is within the bound, it is the
    cheapest run.

    Args:
        run: a search with a weight.
        bops_of: what its policy costs.
        bops: the bound.
        first: the first weight.
        runs: how many, at least 1.
    """
    low, high, weight = 0.0, math.inf, first
    found: list[Found] = []
    for _ in range(runs):
        found.append(run(weight))
        if bops_of(found[-1]) <= bops:
            high = weight
        else:
            low = weight
        weight = _between(low, high)
    fitting = [each for each in found if bops_of(each) <= bops]
    return max(fitting, key=bops_of) if fitting else min(found, key=bops_of)


def _between(low: float, high: float) -> float:
    if low == 0.0:
        return high / 10
    return low * 10 if math.isinf(high) else math.sqrt(low * high)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normal: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normal
