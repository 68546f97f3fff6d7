"""The bounds that a user gives, and the policy that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gmpq import table
from gmpq.errors import SearchError
from gmpq.policy import LayerBits, ModelSpec, Policy, Provenance
from gmpq.search import baselines, rows
from gmpq.search.indicators import Indicators, forbid_falling
from gmpq.search.latency_table import LatencyTable
from gmpq.search.program import Choice, Row, loss_of, solve
from gmpq.search.space import Space


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

    def rows(self, space: Space) -> tuple[Row, ...]:
        """Return the bounds as rows.

        Raises:
            SearchError: there is none, or the latency table lacks a time.
        """
        self.check()
        found = (
            _row(rows.bops, space, self.bops),
            _row(rows.published_bops, space, self.published_bops),
            _row(rows.mean_product, space, self.mean_product),
            _row(rows.size, space, None if self.size_mb is None else self.size_mb * rows.MEGABYTE),
            _row(rows.compression, space, self.compression),
            self._latency(space),
        )
        return tuple(row for row in found if row is not None)

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
        if not self.constraint():
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
        if len(given) != 1 or len(self.constraint()) != 1:
            raise SearchError(
                "random bits are drawn to one number of BOPs: "
                "give --bops, --published-bops or --bits, and nothing else"
            )
        (row,) = self.rows(space)
        macs = np.array([layer.macs for layer in space.searched], np.float64)
        costs = row.costs[:, 0, 0] / (macs * space.weight_bits[0] * space.input_bits[0])
        if not np.allclose(costs, costs[0]):
            raise SearchError(
                "published BOPs leave out the first and the last layer, whose bits are drawn too: "
                "give --bops or --bits, or leave out --ends"
            )
        return float((row.limit - row.fixed) / (costs[0] * macs.sum()))

    def constraint(self) -> dict[str, float]:
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

    def _latency(self, space: Space) -> Row | None:
        if self.times is None or self.latency_ms is None:
            return None
        return rows.latency(space, self.times, self.latency_ms)


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


def to_table(space: Space, bits: Mapping[str, LayerBits]) -> str:
    """Return the bits of every layer, and what they cost, as text."""
    lines = [(name, str(found.w), str(found.a)) for name, found in bits.items()]
    return f"{table.render(('layer', 'w', 'a'), lines)}\n\n{_totals(space, bits)}"


def _totals(space: Space, bits: Mapping[str, LayerBits]) -> str:
    named = [layer for layer in space.layers if not layer.auxiliary]
    pairs = [(layer, bits[layer.name]) for layer in named]
    rest = sum(64 * layer.macs for layer in space.layers if layer.auxiliary)
    total = rest + sum(layer.macs * b.w * b.a for layer, b in pairs)
    middle = [(layer, b) for layer, b in pairs if layer.kept is None]
    macs = sum(layer.macs for layer, _ in middle)
    mean = sum(layer.macs * b.w * b.a for layer, b in middle) / macs
    published = sum(space.published_shares[layer.name] * b.w * b.a for layer, b in pairs)
    size = sum(layer.weights * b.w / 8 for layer, b in pairs)
    count = sum(layer.weights for layer, _ in pairs)
    rows_ = [
        ("BOPs, all layers at their real bits", f"{total / rows.GIGA:.3f} G"),
        ("BOPs, published convention", f"{published / rows.GIGA:.3f} G"),
        ("mean w x a of the searched layers", f"{mean:.3f}"),
        ("weights, at their bits", f"{size / rows.MEGABYTE:.3f} MB ({4 * count / size:.2f} times)"),
    ]
    return table.render(("network", "cost"), rows_)


def _row(make: Callable[[Space, float], Row], space: Space, limit: float | None) -> Row | None:
    return None if limit is None else make(space, limit)
