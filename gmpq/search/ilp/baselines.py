"""What a searched policy has to beat: uniform bits, random ones of equal BOPs, the worst ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp.solver import Constraint, Losses, largest
from gmpq.search.ilp.space import Space

TOLERANCE = 0.01  # of the mean product
MOST_STEPS = 100_000


def uniform(space: Space, bits: LayerBits) -> dict[str, LayerBits]:
    """Return ``bits`` for every searched layer; the others keep theirs."""
    return space.named(repeat(bits))


def random(space: Space, mean_product: float, seed: int) -> dict[str, LayerBits]:
    """Return random bits whose mean ``w * a``, weighted by MACs, is within 1% of ``mean_product``.

    Raises:
        SearchError: no choice of the bits of ``space`` has that mean.
    """
    return space.named(draw(space, mean_product, seed))


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


def draw(space: Space, mean_product: float, seed: int) -> list[LayerBits]:
    """Return random bits of the searched layers whose mean ``w * a`` is within 1% of the given one.

    Bits are drawn evenly, then single random ones move to the next candidate towards the mean until
    it is met.

    Raises:
        SearchError: no choice of the bits of ``space`` has that mean.
    """
    rng = np.random.default_rng(seed)
    macs = np.array([layer.macs for layer in space.searched], np.float64)
    share = macs / macs.sum()
    sides = (np.array(space.weight_bits), np.array(space.input_bits))
    chosen = rng.integers(0, [len(bits) for bits in sides], (len(share), 2))
    mean = float(share @ (sides[0][chosen[:, 0]] * sides[1][chosen[:, 1]]))
    for _ in range(MOST_STEPS):
        if abs(mean / mean_product - 1) <= TOLERANCE:
            return [LayerBits(int(sides[0][w]), int(sides[1][a])) for w, a in chosen.tolist()]
        layer, side = rng.integers(len(share)), int(rng.integers(2))
        bits, other = sides[side], sides[1 - side][chosen[layer, 1 - side]]
        moved = chosen[layer, side] + (1 if mean < mean_product else -1)
        if not 0 <= moved < len(bits):
            continue
        after = mean + int(bits[moved] - bits[chosen[layer, side]]) * float(share[layer] * other)
        if abs(after - mean_product) < abs(mean - mean_product):
            chosen[layer, side] = moved
            mean = after
    least, most = (space.weight_bits[i] * space.input_bits[i] for i in (0, -1))
    numbers = {*space.weight_bits, *space.input_bits}
    raise SearchError(
        f"no policy of {min(numbers)} to {max(numbers)} bits has a mean w x a of "
        f"{mean_product:.3g}: use {least} to {most}"
    )
