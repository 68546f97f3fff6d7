"""What a searched policy has to beat: uniform bits, random ones of equal BOPs, the worst ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp.solver import Constraint, Losses, largest
from gmpq.search.ilp.space import BITS, Space

TOLERANCE = 0.01  # of the mean product
MOST_STEPS = 100_000


def uniform(space: Space, bits: LayerBits) -> dict[str, LayerBits]:
    """Return ``bits`` for every searched layer; the others keep theirs."""
    return {layer.name: layer.kept or bits for layer in space.layers if not layer.auxiliary}


def random(
    space: Space, mean_product: float, seed: int, bits: Sequence[int] = BITS
) -> dict[str, LayerBits]:
    """Return random bits whose mean ``w * a``, weighted by MACs, is within 1% of ``mean_product``.

    Raises:
        SearchError: no choice of ``bits`` has that mean.
    """
    drawn = iter(draw([layer.macs for layer in space.searched], bits, mean_product, seed))
    return {layer.name: layer.kept or next(drawn) for layer in space.layers if not layer.auxiliary}


def reverse(
    losses: Losses, constraints: Sequence[Constraint]
) -> tuple[Losses, tuple[Constraint, ...]]:
    """Return the program whose best assignment is the worst of ``losses`` at equal cost.

    LIMPQ checks its losses this way. The first constraint is also met from below, to within 1%;
    without that the fewest bits would be the worst.
    """
    worst = Losses(np.where(np.isfinite(losses.values), -losses.values, losses.values))
    spent = constraints[0]
    least = (1 - TOLERANCE) * min(spent.limit, largest(losses, spent))
    below = replace(
        spent, name=f"{spent.name} from below", costs=-spent.costs, fixed=-spent.fixed, limit=-least
    )
    return worst, (*constraints, below)


def draw(
    macs: Sequence[int], bits: Sequence[int], mean_product: float, seed: int
) -> list[LayerBits]:
    """Return random bits per layer whose mean ``w * a`` is within 1% of ``mean_product``.

    Bits are drawn evenly, then single random ones move to the next of ``bits`` towards the mean
    until it is met.

    Raises:
        SearchError: no choice of ``bits`` has that mean.
    """
    rng = np.random.default_rng(seed)
    share = np.array(macs, np.float64) / sum(macs)
    numbers = np.array(bits)
    assignment = rng.integers(0, len(numbers), (len(share), 2))
    mean = float(share @ numbers[assignment].prod(axis=1))
    for _ in range(MOST_STEPS):
        if abs(mean / mean_product - 1) <= TOLERANCE:
            return [LayerBits(w, a) for w, a in numbers[assignment].tolist()]
        layer, side = rng.integers(len(share)), rng.integers(2)
        moved = assignment[layer, side] + (1 if mean < mean_product else -1)
        if not 0 <= moved < len(numbers):
            continue
        change = int(numbers[moved] - numbers[assignment[layer, side]])
        after = mean + change * float(share[layer] * numbers[assignment[layer, 1 - side]])
        if abs(after - mean_product) < abs(mean - mean_product):
            assignment[layer, side] = moved
            mean = after
    raise SearchError(
        f"no policy of {min(bits)} to {max(bits)} bits has a mean w x a of {mean_product:.3g}: "
        f"use {min(bits) ** 2} to {max(bits) ** 2}"
    )
