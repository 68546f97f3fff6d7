"""Which layers may store more than a byte per weight, where a program has a bound on all of them.

Each layer begins with the kernel that was chosen for it. While the weights exceed the bound, the
layer gives way that adds the least cost per byte, for one of its other kernels (the greedy
method for multiple-choice knapsacks; Sinha and Zoltners, "The Multiple-Choice Knapsack Problem",
1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """A kernel of a layer by name: its predicted cost, and the bytes of the weights it reads."""

    name: str
    cost: float
    weight_bytes: int

    def loss(self, other: Option) -> float:
        """Return the cost that ``other``, which is smaller, adds per byte that it saves."""
        return (other.cost - self.cost) / (self.weight_bytes - other.weight_bytes)


def within(
    chosen: Sequence[Option], options: Sequence[Sequence[Option]], most_bytes: float
) -> list[Option]:
    """Return an option of each layer so that all weights take at most ``most_bytes``.

    Where no choice is that small, the smallest one is returned.

    Args:
        chosen: the option of each layer that costs least.
        options: of each layer.
        most_bytes: of the weights of all layers together.
    """
    kept = list(chosen)
    while sum(option.weight_bytes for option in kept) > most_bytes:
        swaps = [
            (own.loss(other), layer, other)
            for layer, own in enumerate(kept)
            for other in options[layer]
            if other.weight_bytes < own.weight_bytes
        ]
        if not swaps:
            break
        _, layer, other = min(swaps, key=lambda swap: swap[:2])
        kept[layer] = other
    return kept
