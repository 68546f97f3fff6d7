"""The bounds of a search as constraints: BOPs in both conventions, weight bytes, latency.

- BOPs: every layer at its real bits, the kept ones too: what ``gmpq explain --costs`` prints first.
- Published BOPs: all MACs at the mean ``w * a`` of all layers but the first and the last.
- Size: weights x their bits, without the containers that files hold 3, 5, 6 and 7 bits in.
- Latency: the sum of measured times. That times add up is an assumption: measure the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gmpq.policy import LayerBits
from gmpq.search.ilp.latency_table import LatencyTable
from gmpq.search.ilp.solver import Constraint, Reals
from gmpq.search.ilp.space import Layer, Space, require_layers

FLOAT_BITS = 32
GIGA, MEGABYTE = 1e9, 1e6


def total_bops(space: Space, bits: Mapping[str, LayerBits]) -> int:
    """Return the BOPs of the network; ``bits`` has all layers but the auxiliary ones."""
    pairs = ((layer.macs, layer.kept or bits[layer.name]) for layer in space.layers)
    return sum(macs * pair.w * pair.a for macs, pair in pairs)


def total_published_bops(space: Space, bits: Mapping[str, LayerBits]) -> float:
    """Return the BOPs as papers count them; ``bits`` has all layers but the auxiliary ones."""
    return sum(
        share * bits[name].w * bits[name].a for name, share in space.published_shares.items()
    )


def expected_bops(space: Space, weight_bits: Reals, input_bits: Reals) -> float:
    """Return the BOPs of the network at the mean bits [L] of its searched layers."""
    macs = np.array([layer.macs for layer in space.searched], np.float64)
    return bops(space, 0.0).fixed + float((macs * weight_bits * input_bits).sum())


def bops(space: Space, limit: float) -> Constraint:
    """Return the bound on the BOPs of all layers at their real bits."""
    kept = sum(layer.macs * b.w * b.a for layer, b in _kept(space))
    return Constraint("BOPs", _products(space), limit, kept, "G", GIGA)


def published_bops(space: Space, limit: float) -> Constraint:
    """Return the bound on the BOPs as papers count them."""
    shares = space.published_shares
    costs = _costs(space, [shares[layer.name] for layer in space.searched])
    kept = sum(shares[layer.name] * b.w * b.a for layer, b in _kept(space) if not layer.auxiliary)
    return Constraint("published BOPs", costs, limit, kept, "G", GIGA)


def mean_product(space: Space, limit: float) -> Constraint:
    """Return the bound on the mean ``w * a`` of the searched layers, weighted by their MACs.

    ``limit`` 12 is the level that LIMPQ calls W3A4.
    """
    searched = sum(layer.macs for layer in space.searched)
    return Constraint("mean w x a", _products(space) / searched, limit)


def size(space: Space, limit_bytes: float) -> Constraint:
    """Return the bound on the bytes of all weights."""
    weights = np.array([layer.weights for layer in space.searched], np.float64)
    bits = np.array(space.weight_bits, np.float64)
    costs = np.repeat(weights[:, None, None] * bits[:, None] / 8, len(space.input_bits), axis=2)
    kept = sum(layer.weights * b.w / 8 for layer, b in _kept(space))
    return Constraint("size", costs, limit_bytes, kept, "MB", MEGABYTE)


def compression(space: Space, ratio: float) -> Constraint:
    """Return the bound that weights are ``ratio`` times smaller than in float32."""
    total = sum(layer.weights for layer in space.layers)
    return size(space, total * FLOAT_BITS / 8 / ratio)


def latency(space: Space, table: LatencyTable, limit_ms: float) -> Constraint:
    """Return the bound on the sum of the times in ``table``.

    Raises:
        SearchError: the table lacks a layer, or a layer's time at a pair of bits.
    """
    require_layers(table.place, table.layers, space)
    times = [
        [
            [table.time(layer.name, LayerBits(w, a)) for a in space.input_bits]
            for w in space.weight_bits
        ]
        for layer in space.searched
    ]
    kept = sum(table.time(layer.name, bits) for layer, bits in _kept(space))
    return Constraint("latency", np.array(times, np.float64), limit_ms, kept, "ms")


def _products(space: Space) -> Reals:
    return _costs(space, [layer.macs for layer in space.searched])


def _costs(space: Space, factors: Sequence[float]) -> Reals:
    """Return ``w * a`` at all bits, times a factor for each searched layer."""
    products = np.multiply.outer(space.weight_bits, space.input_bits)
    costs: Reals = np.array(factors, np.float64)[:, None, None] * products
    return costs


def _kept(space: Space) -> list[tuple[Layer, LayerBits]]:
    return [(layer, layer.kept) for layer in space.layers if layer.kept is not None]
