"""Rates over time, and scales that stay positive."""

from __future__ import annotations

import pytest
import torch

from gmpq.errors import TrainingError
from gmpq.qat.build import InitialState
from gmpq.qat.optimize import advance, make_optimizer, rate
from gmpq.qat.options import TrainOptions
from gmpq.qat.scales import METHODS, MakeScale
from tests.qat.nets import Residual, prepared, randomized


def test_the_rate_rises_and_falls_along_a_cosine() -> None:
    options = TrainOptions(epochs=5, lr=1.0, warmup=1.0)
    rates = [rate(step, 4, options) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[12] == pytest.approx(0.5)
    assert rates[19] == pytest.approx(0.0096, abs=1e-4)
    assert sorted(rates[4:], reverse=True) == rates[4:]


def test_a_short_training_warms_up_for_half_of_it_at_most() -> None:
    assert rate(2, 4, TrainOptions(epochs=1, lr=1.0, warmup=9.0)) == 1.0


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in METHODS])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_scale_moves_by_more_than_a_tenth(optimizer: str, make: MakeScale) -> None:
    network = prepared(randomized(Residual()), 4, 3, InitialState(make_scale=make)).train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    advance(make_optimizer(network, TrainOptions(optimizer=optimizer)), network, 10.0)
    for name, parameter in network.named_parameters():
        if name.endswith("step") or name.startswith("scales."):
            torch.testing.assert_close(parameter.detach(), 0.9 * before[name])


def test_only_weights_decay() -> None:
    network = prepared(randomized(Residual()), 4, 3)
    decayed, others = make_optimizer(network, TrainOptions()).param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in others["params"]} == {0, 1}
    assert (decayed["weight_decay"], others["weight_decay"]) == (1e-4, 0.0)


def test_numbers_that_train_nothing_are_refused() -> None:
    with pytest.raises(TrainingError, match="--batch 1: must be at least 2"):
        TrainOptions(batch=1)
