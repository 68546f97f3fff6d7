"""The training of indicators: its passes, its gradients, and what it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from gmpq.search.ilp.solver import Reals
from gmpq.search.indicators.limpq import _clip, policies, steps_of, train
from gmpq.search.indicators.limpq_network import Switchable, make_switchable
from gmpq.search.indicators.options import LimpqOptions
from tests.search.nets import SHAPE, inverted, labelled

BITS = (2, 3, 4)
SIGNED = {"expand": True, "depth": False, "project": False}
OPTIONS = LimpqOptions(epochs=2, batch=8, lr=0.05)


def small() -> Switchable:
    return make_switchable(inverted(), SHAPE, SIGNED, BITS)


def trained(options: LimpqOptions = OPTIONS) -> tuple[Reals, Reals]:
    switchable = small()
    train(switchable, labelled(24), options, lambda _: None)
    return steps_of(switchable, list(SIGNED))


def test_a_step_has_a_pass_per_bit_and_a_random_one() -> None:
    found = list(policies(small(), np.random.default_rng(0)))
    assert found[:-1] == [dict.fromkeys(SIGNED, bits) for bits in (4, 3, 2)]
    assert set(found[-1]) == set(SIGNED)
    others = [list(policies(small(), np.random.default_rng(seed)))[-1] for seed in range(20)]
    assert {number for drawn in others for number in drawn.values()} == set(BITS)


def test_gradients_of_all_passes_add_up_before_one_step() -> None:
    seen = []
    switchable = small()
    switchable.network.register_forward_hook(lambda *_: seen.append(1))
    advances: list[int] = []
    train(switchable, labelled(20), OPTIONS, advances.append)
    assert advances == [8, 8] * 2  # four images wait for the next epoch's order
    assert len(seen) == len(advances) * (len(BITS) + 1)


def test_every_step_learns() -> None:
    before = small()
    before.network(torch.from_numpy(np.stack(labelled(24).items)))
    weight, _ = steps_of(before, list(SIGNED))
    learned, read = trained()
    assert (learned != weight).all()
    assert (np.diff(learned, axis=1) < 0).all()  # fewer bits have larger steps
    assert (np.diff(read, axis=1) < 0).all()


def test_a_seed_repeats_the_training() -> None:
    first, second = trained(), trained()
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    other = trained(replace(OPTIONS, seed=1))
    assert (first[0] != other[0]).any()


def test_gradients_are_clipped_by_element() -> None:
    network = torch.nn.Linear(3, 1)
    network.weight.grad = torch.tensor([[5.0, -0.5, -7.0]])
    assert network.bias is not None
    network.bias.grad = torch.zeros(1)
    _clip(network)
    assert network.weight.grad.tolist() == [[1.0, -0.5, -1.0]]
    assert network.bias.grad is None
