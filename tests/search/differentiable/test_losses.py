"""The losses of GMPQ, with figures computed from the paper's formulas (arXiv:2108.02720)."""

from __future__ import annotations

import pytest
import torch

from gmpq import models
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.differentiable.losses import attribution_loss, complexity_loss, sharpen
from gmpq.search.differentiable.settings import CapacityPower, ConstantPower, Settings
from gmpq.search.differentiable.supernet import expected_bits, make_supernet, mixed_convs
from gmpq.search.ilp.candidates import Candidates


def test_at_the_start_on_cifar_resnet18() -> None:
    network = models.find("cifar_resnet18").build()
    info = inspect_network(network, (3, 32, 32))
    layers = mixed_convs(make_supernet(network, info, Settings()), info)
    bits = expected_bits(layers)
    macs = [layer.macs for layer in info.searched]
    assert complexity_loss(macs, *bits).item() == pytest.approx(206.25)
    assert CapacityPower().of(*bits).item() == pytest.approx(1.7067, abs=1e-4)


@pytest.mark.parametrize(
    ("bits", "loss"),
    [
        pytest.param(2.0, 0.018, id="all-2"),
        pytest.param(3.75, 0.062, id="start"),
        pytest.param(6.0, 0.158, id="all-6"),
    ],
)
def test_complexity_with_the_released_weight(bits: float, loss: float) -> None:
    uniform = torch.full((19,), bits)
    relative = [1_000_000] + [13_666_667 // 18] * 18
    assert 3e-4 * complexity_loss(relative, uniform, uniform) == pytest.approx(loss, abs=6e-4)


@pytest.mark.parametrize(
    ("bits", "power"),
    [
        pytest.param((2, 3, 4), 2.67, id="2-3-4"),
        pytest.param((2, 3, 4, 6), 1.71, id="2-3-4-6"),
        pytest.param((2, 3, 4, 5, 6, 7, 8), 0.96, id="2-to-8"),
        pytest.param((2,), 6.0, id="all-2"),
        pytest.param((4,), 1.5, id="all-4"),
        pytest.param((6,), 0.67, id="all-6"),
        pytest.param((1,), 8.0, id="clipped-above"),
        pytest.param((8,), 0.5, id="clipped-below"),
    ],
)
def test_power_of_capacity(bits: tuple[int, ...], power: float) -> None:
    mean = torch.full((5,), sum(bits) / len(bits), requires_grad=True)
    found = CapacityPower().of(mean, mean)
    assert found.item() == pytest.approx(power, abs=5e-3)
    assert not found.requires_grad


def test_constant_power() -> None:
    bits = torch.ones(3)
    assert ConstantPower().of(bits, bits).item() == 3


def test_attribution_loss_is_a_cosine() -> None:
    torch.manual_seed(0)
    student, teacher = torch.rand(6, 4, 5), torch.rand(6, 4, 5)
    cosines = torch.cosine_similarity(student.flatten(1), teacher.pow(1.7).flatten(1))
    expected = (2 * (1 - cosines) / 20).mean()
    torch.testing.assert_close(attribution_loss(student, teacher, torch.tensor(1.7)), expected)


def test_sharpening_does_not_overflow() -> None:
    maps = torch.tensor([[[1e20, 5e19]], [[1e-20, 0.0]], [[0.0, 0.0]]])
    assert sharpen(maps, torch.tensor(2.0)).tolist() == [[[1, 0.25]], [[1, 0]], [[0, 0]]]


def test_space_defaults_to_the_released_one() -> None:
    assert Settings().candidates == Candidates((2, 3, 4, 6), (2, 3, 4, 6))
