"""Which bits to measure: uniform policies, and seeded draws that hit a budget of BOPs.

Every policy leaves the first and the last layer at 8 bits. A budget is in the published
convention: all MACs of the network at the mean ``w * a`` of the layers between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gmpq.policy import LayerBits
from gmpq.search.ilp import baselines
from gmpq.search.ilp.space import Layer, Space

MIXED = "mixed"
UNIFORM = re.compile(r"w([1-8])a([1-8])$")
WIDE = LayerBits(8, 8)  # of the first and the last layer


@dataclass(frozen=True, slots=True)
class Budget:
    """What a mixed policy costs, and the bits that it is drawn from."""

    bops: float
    low: int
    high: int


BUDGETS: Mapping[str, Budget] = {  # the BOPs of the papers' searched policies
    "resnet18": Budget(15.3e9, 2, 6),
    "resnet50": Budget(30.7e9, 2, 6),
    "mobilenet_v2": Budget(7.4e9, 2, 8),
    "efficientnet_lite0": Budget(9.6e9, 2, 8),  # in no paper: that of w5a5
}


def choose(name: str, network: str, macs: Mapping[str, int], seed: int) -> dict[str, LayerBits]:
    """Return the bits of every layer for a policy called ``name``: ``w4a4``, or ``mixed``.

    Args:
        name: of the policy.
        network: whose budget a mixed policy hits.
        macs: of every layer, in execution order.
        seed: of a mixed policy.

    Raises:
        ValueError: there is no such policy.
    """
    if name == MIXED:
        if network not in BUDGETS:
            raise ValueError(f"{MIXED} has no budget for {network}: use {', '.join(BUDGETS)}")
        return draw(macs, BUDGETS[network], seed)
    uniform = UNIFORM.match(name)
    if uniform is None:
        raise ValueError(f"policy {name!r} is unknown: use w8a8, w4a3, ... or {MIXED}")
    bits = LayerBits(int(uniform[1]), int(uniform[2]))
    return _with_wide_ends(macs, [bits] * len(_searched(macs)))


def draw(macs: Mapping[str, int], budget: Budget, seed: int) -> dict[str, LayerBits]:
    """Return random bits whose published BOPs are within 1% of the budget.

    Raises:
        SearchError: there are none.
    """
    bits = tuple(range(budget.low, budget.high + 1))
    mean = budget.bops / sum(macs.values())  # of w * a
    fixed = (next(iter(macs)), list(macs)[-1])
    layers = tuple(
        Layer(name, count, weights=0, kept=WIDE if name in fixed else None)
        for name, count in macs.items()
    )
    return baselines.random(Space(layers, bits, bits), mean, seed)


def ladder(macs: Mapping[str, int], count: int) -> list[dict[str, LayerBits]]:
    """Return ``count`` seeded policies of 2 to 8 bits, from few BOPs to many, evenly in ratio."""
    total = sum(macs.values())
    means = np.geomspace(6, 50, count)  # of w * a; 4 and 64 leave nothing to draw
    return [draw(macs, Budget(mean * total, 2, 8), seed) for seed, mean in enumerate(means)]


def _searched(macs: Mapping[str, int]) -> Sequence[int]:
    return list(macs.values())[1:-1]


def _with_wide_ends(macs: Mapping[str, int], searched: Sequence[LayerBits]) -> dict[str, LayerBits]:
    return dict(zip(macs, [WIDE, *searched, WIDE], strict=True))
