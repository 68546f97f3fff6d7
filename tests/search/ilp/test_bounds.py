from __future__ import annotations

import re

import numpy as np
import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits, ModelSpec
from gmpq.search.ilp.baselines import TOLERANCE
from gmpq.search.ilp.bounds import Bounds, to_table
from gmpq.search.ilp.latency_table import LatencyTable
from gmpq.search.ilp.space import Layer, Space
from gmpq.search.indicators.indicators import Indicators
from gmpq.search.indicators.policy import Objective, search

WIDE = LayerBits(8, 8)
BITS = (2, 3, 4, 5, 6)
COUNT = 12


def network() -> Indicators:
    """Return losses that fall with the bits, of layers that differ in all respects."""
    rng = np.random.default_rng(1)
    middle = [
        Layer(f"layer{i}", int(rng.integers(1, 9)) * 10**6, int(rng.integers(1, 9)) * 1000)
        for i in range(COUNT)
    ]
    layers = (Layer("first", 10**7, 500, WIDE), *middle, Layer("last", 10**5, 5000, WIDE))
    losses = np.sort(rng.random((2, COUNT, len(BITS))), axis=2)[:, :, ::-1]
    return Indicators("limpq", "net", Space(layers, BITS, BITS), *losses, "train/", seed=5)


def products(bits: dict[str, LayerBits]) -> float:
    space = network().space
    total = sum(layer.macs * bits[layer.name].w * bits[layer.name].a for layer in space.searched)
    return total / sum(layer.macs for layer in space.searched)


def test_a_policy_says_where_it_comes_from() -> None:
    policy = search(network(), Bounds(mean_product=9.0), Objective(2.0), ModelSpec(arch="net"))
    assert policy.layers["first"] == policy.layers["last"] == WIDE
    assert len(policy.layers) == COUNT + 2
    assert 8.5 < products(policy.layers) <= 9.0
    provenance = policy.provenance
    assert provenance is not None
    assert (provenance.method, provenance.dataset, provenance.seed) == ("limpq", "train/", 5)
    assert provenance.constraint == {"mean_product": 9.0}
    assert provenance.details is not None
    assert provenance.details["alpha"] == 2.0


def test_more_budget_loses_less() -> None:
    losses = [
        search(network(), Bounds(mean_product=mean), Objective(), ModelSpec()).provenance.details[
            "loss"
        ]
        for mean in (4.0, 9.0, 16.0, 36.0)
    ]
    assert losses == sorted(losses, reverse=True)


def test_the_worst_policy_spends_as_much() -> None:
    bounds = Bounds(mean_product=12.0)
    best = search(network(), bounds, Objective(), ModelSpec())
    worst = search(network(), bounds, Objective(reverse=True), ModelSpec())
    assert 12 * (1 - TOLERANCE) <= products(worst.layers) <= 12
    assert worst.provenance.method == "limpq reversed"
    assert worst.provenance.details["loss"] > best.provenance.details["loss"] + 1


def test_falling_losses_are_trusted_or_not() -> None:
    losses = network()
    losses.weight[3] = [0.0, 0.5, 0.4, 0.3, 0.2]  # 2 bits look best
    bounds = Bounds(mean_product=9.0)
    assert search(losses, bounds, Objective(), ModelSpec()).layers["layer3"].w == 2
    trusted = search(losses, bounds, Objective(forbid_falling=True), ModelSpec())
    assert trusted.layers["layer3"].w > 2


def test_all_bounds_hold_together() -> None:
    space = network().space
    pairs = [LayerBits(w, a) for w in BITS for a in BITS]
    times = {layer.name: {b: b.w + b.a / 10 for b in [*pairs, WIDE]} for layer in space.layers}
    bounds = Bounds(1.3e9, 0.8e9, 14.0, 0.03, 7.0, 60.0, LatencyTable("times", times))
    policy = search(network(), bounds, Objective(), ModelSpec())
    for constraint in bounds.constraints(space):
        chosen = [policy.layers[layer.name] for layer in space.searched]
        assignment = np.array([[BITS.index(b.w), BITS.index(b.a)] for b in chosen])
        assert constraint.total(assignment) <= constraint.limit
    assert len(bounds.limits()) == len(bounds.constraints(space)) == 6


def test_without_a_bound_there_is_no_search() -> None:
    with pytest.raises(SearchError, match="no bound"):
        search(network(), Bounds(), Objective(), ModelSpec())
    with pytest.raises(SearchError, match="needs the table and the limit"):
        search(network(), Bounds(latency_ms=1.0), Objective(), ModelSpec())


def test_the_level_of_a_bound() -> None:
    space = network().space
    searched = sum(layer.macs for layer in space.searched)
    kept = 64 * (10**7 + 10**5)
    assert Bounds(mean_product=9.0).level(space) == pytest.approx(9)
    assert Bounds(bops=kept + 9.0 * searched).level(space) == pytest.approx(9)
    assert Bounds(published_bops=9.0 * space.macs).level(space) == pytest.approx(9)
    for bounds in (Bounds(size_mb=1.0), Bounds(bops=1e9, size_mb=1.0), Bounds()):
        with pytest.raises(SearchError, match="one number of BOPs"):
            bounds.level(space)


def test_the_table_adds_up() -> None:
    space = network().space
    bits = {layer.name: layer.kept or LayerBits(2, 4) for layer in space.layers}
    text = to_table(space, bits)
    assert re.search(r"mean w x a of the searched layers +8\.000", text)
    assert "layer11" in text
