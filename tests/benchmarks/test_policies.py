from __future__ import annotations

import numpy as np
import pytest
import torch

from gmpq import models
from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp.baselines import TOLERANCE
from versus.policies import BUDGETS, Budget, choose, draw, ladder
from versus.subject import Subject

MACS = {f"layer{index}": 1_000_000 * (1 + index % 5) for index in range(20)}


def mean_product(bits: dict[str, LayerBits]) -> float:
    searched = list(bits)[1:-1]
    products = sum(MACS[name] * bits[name].w * bits[name].a for name in searched)
    return products / sum(MACS[name] for name in searched)


def test_uniform_policies_leave_the_ends_at_8_bits() -> None:
    bits = choose("w4a3", "resnet18", MACS, seed=0)
    assert list(bits) == list(MACS)
    assert list(bits.values()) == [LayerBits(8, 8), *[LayerBits(4, 3)] * 18, LayerBits(8, 8)]


@pytest.mark.parametrize("name", ["w9a4", "w4", "int8", "w4a4x"])
def test_an_unknown_policy_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown: use w8a8"):
        choose(name, "resnet18", MACS, seed=0)


def test_a_mixed_policy_needs_a_budget() -> None:
    with pytest.raises(ValueError, match="no budget for squeezenet1_1"):
        choose("mixed", "squeezenet1_1", MACS, seed=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean", [4.2, 8.4, 16.0, 35.5])
def test_a_draw_meets_its_budget(mean: float, seed: int) -> None:
    budget = Budget(mean * sum(MACS.values()), 2, 6)
    bits = draw(MACS, budget, seed)
    assert abs(mean_product(bits) / mean - 1) <= TOLERANCE
    searched = list(bits.values())[1:-1]
    assert all(2 <= number <= 6 for layer in searched for number in (layer.w, layer.a))
    assert bits == draw(MACS, budget, seed)


def test_draws_of_other_seeds_differ() -> None:
    budget = Budget(9.0 * sum(MACS.values()), 2, 6)
    assert draw(MACS, budget, 0) != draw(MACS, budget, 1)


def test_a_budget_out_of_reach_is_refused() -> None:
    with pytest.raises(SearchError, match="no policy of 2 to 6 bits"):
        draw(MACS, Budget(37.0 * sum(MACS.values()), 2, 6), seed=0)


def test_the_ladder_climbs() -> None:
    means = [mean_product(bits) for bits in ladder(MACS, 12)]
    assert means == sorted(means)
    np.testing.assert_allclose([means[0], means[-1]], [6, 50], rtol=TOLERANCE)


@pytest.mark.parametrize("network", BUDGETS)
def test_the_budgets_of_the_papers_are_met_on_the_networks(network: str) -> None:
    arch = models.find(network)
    subject = Subject(network, arch.build().eval(), torch.zeros(1, *arch.shape))
    cost = subject.cost(choose("mixed", network, subject.macs, seed=0))
    assert cost.published_bops == pytest.approx(BUDGETS[network].bops, rel=TOLERANCE)
    assert cost.layers[0].bits == cost.layers[-1].bits == LayerBits(8, 8)
