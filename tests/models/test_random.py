"""Random weights: reproducible, and with activations that stay well scaled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmpq.lower import lower, run_float
from gmpq.models import find
from gmpq.models.random import random_images, randomize


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "cifar_resnet20"])
def test_activations_are_well_scaled(name: str) -> None:
    arch = find(name)
    module = arch.build()
    randomize(module, 0)
    graph = lower(module, (1, 3, 64, 64), name)
    images = random_images(4, (3, 64, 64), torch.Generator().manual_seed(1))
    for value, tensor in run_float(graph, {"input": images}):
        assert 0.1 < tensor.std() < 30, value


def test_a_seed_decides_everything() -> None:
    first, second, third = (find("cifar_resnet8").build() for _ in range(3))
    state = torch.random.get_rng_state()
    randomize(first, 5)
    randomize(second, 5)
    randomize(third, 6)
    assert torch.equal(torch.random.get_rng_state(), state)
    keys = first.state_dict().keys()
    assert all(torch.equal(first.state_dict()[key], second.state_dict()[key]) for key in keys)
    assert not torch.equal(first.state_dict()["fc.weight"], third.state_dict()["fc.weight"])


def test_the_module_keeps_its_modes() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout())
    module[1].eval()
    randomize(module, 0)
    assert [part.training for part in module.modules()] == [True, True, False, True]
    assert module[1].momentum == 0.3
    assert not torch.equal(module[1].running_var, torch.ones(4))


def test_images_are_smooth_and_normalized() -> None:
    images = random_images(3, (3, 32, 24), torch.Generator().manual_seed(0))
    assert images.shape == (3, 3, 32, 24)
    assert abs(float(images.mean())) < 1e-5
    assert float(images.std()) == pytest.approx(1)
    step = images.diff(dim=3).std()
    assert step < 0.6  # neighbours of white noise differ by 1.4
