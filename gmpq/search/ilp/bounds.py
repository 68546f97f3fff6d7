"""The bounds that a user gives, and the costs of bits as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gmpq import table
from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp import constraints
from gmpq.search.ilp.latency_table import LatencyTable
from gmpq.search.ilp.solver import Constraint
from gmpq.search.ilp.space import Space

OPTIONS = {
    "bops": "--bops",
    "published_bops": "--published-bops",
    "mean_product": "--bits",
    "size_mb": "--size",
    "compression": "--compression",
    "latency_ms": "--latency",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a policy may cost at most; None is no bound."""

    bops: float | None = None
    published_bops: float | None = None
    mean_product: float | None = None  # of w and a: 16 for --bits 4, 12 for w3a4
    size_mb: float | None = None  # of 1e6 bytes
    compression: float | None = None  # of the weights against float32
    latency_ms: float | None = None
    times: LatencyTable | None = None

    def constraints(self, space: Space) -> tuple[Constraint, ...]:
        """Return the bounds as constraints.

        Raises:
            SearchError: there is none, or the latency table lacks a time.
        """
        self.check()
        found = (
            _constraint(constraints.bops, space, self.bops),
            _constraint(constraints.published_bops, space, self.published_bops),
            _constraint(constraints.mean_product, space, self.mean_product),
            _constraint(
                constraints.size,
                space,
                None if self.size_mb is None else self.size_mb * constraints.MEGABYTE,
            ),
            _constraint(constraints.compression, space, self.compression),
            self._latency(space),
        )
        return tuple(constraint for constraint in found if constraint is not None)

    def check(self) -> None:
        """Pass bounds that bound something.

        Raises:
            SearchError: there is none, or latency lacks its table or its limit.
        """
        if (self.times is None) != (self.latency_ms is None):
            raise SearchError(
                "a bound on latency needs the table and the limit: "
                "give --latency-table FILE and --latency MILLISECONDS"
            )
        if not self.limits():
            raise SearchError(
                "no bound: every layer would get the most bits: "
                "give --bops, --published-bops, --bits, --size, --compression or --latency"
            )

    def level(self, space: Space) -> float:
        """Return the mean ``w * a`` of the searched layers at the bound on BOPs.

        Raises:
            SearchError: not exactly one bound is given, or it is none on BOPs.
        """
        given = [limit for limit in (self.bops, self.published_bops, self.mean_product) if limit]
        if len(given) != 1 or len(self.limits()) != 1:
            raise SearchError(
                f"random bits meet one number of BOPs, got {' and '.join(self.options) or 'none'}: "
                "give --bops, --published-bops or --bits alone"
            )
        (constraint,) = self.constraints(space)
        macs = np.array([layer.macs for layer in space.searched], np.float64)
        costs = constraint.costs[:, 0, 0] / (macs * space.weight_bits[0] * space.input_bits[0])
        if not np.allclose(costs, costs[0]):
            raise SearchError(
                "published BOPs leave out the first and the last layer, whose bits are drawn too: "
                "give --bops or --bits, or leave out --include-first-last"
            )
        return float((constraint.limit - constraint.fixed) / (costs[0] * macs.sum()))

    def limits(self) -> dict[str, float]:
        """Return the bounds by name, as a policy's provenance keeps them."""
        named = {
            "bops": self.bops,
            "published_bops": self.published_bops,
            "mean_product": self.mean_product,
            "size_mb": self.size_mb,
            "compression": self.compression,
            "latency_ms": self.latency_ms,
        }
        return {name: limit for name, limit in named.items() if limit is not None}

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the command line that give these bounds."""
        return tuple(OPTIONS[name] for name in self.limits())

    def optional_constraints(self, space: Space) -> tuple[Constraint, ...]:
        """Return the bounds as constraints; none if there are no bounds.

        Raises:
            SearchError: the latency table lacks a time, or latency its table or its limit.
        """
        return () if self == Bounds() else self.constraints(space)

    def _latency(self, space: Space) -> Constraint | None:
        if self.times is None or self.latency_ms is None:
            return None
        return constraints.latency(space, self.times, self.latency_ms)


def to_table(space: Space, bits: Mapping[str, LayerBits]) -> str:
    """Return the bits of every layer, and what they cost, as text."""
    lines = [(name, str(found.w), str(found.a)) for name, found in bits.items()]
    return f"{table.render(('layer', 'w', 'a'), lines)}\n\n{_totals(space, bits)}"


def _totals(space: Space, bits: Mapping[str, LayerBits]) -> str:
    named = [layer for layer in space.layers if not layer.auxiliary]
    pairs = [(layer, bits[layer.name]) for layer in named]
    total = constraints.total_bops(space, bits)
    middle = [(layer, b) for layer, b in pairs if layer.kept is None]
    macs = sum(layer.macs for layer, _ in middle)
    mean = sum(layer.macs * b.w * b.a for layer, b in middle) / macs
    published = constraints.total_published_bops(space, bits)
    size = sum(layer.weights * b.w / 8 for layer, b in pairs)
    count = sum(layer.weights for layer, _ in pairs)
    lines_ = [
        ("BOPs, all layers at their real bits", f"{total / constraints.GIGA:.3f} G"),
        ("BOPs, published convention", f"{published / constraints.GIGA:.3f} G"),
        ("mean w x a of the searched layers", f"{mean:.3f}"),
        (
            "weights, at their bits",
            f"{size / constraints.MEGABYTE:.3f} MB ({4 * count / size:.2f} times)",
        ),
    ]
    return table.render(("network", "cost"), lines_)


def _constraint(
    make: Callable[[Space, float], Constraint], space: Space, limit: float | None
) -> Constraint | None:
    return None if limit is None else make(space, limit)
