"""Batch norms: torch's function, folding, and statistics measured anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmpq.qat.norm import Norm
from gmpq.qat.reestimate import reestimate


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_training_is_torchs_batch_norm() -> None:
    ours, torchs = Norm(torch.zeros(3), torch.ones(3)), nn.BatchNorm2d(3)
    torch.testing.assert_close(ours(images()), torchs(images()))
    torch.testing.assert_close(ours.mean, torchs.running_mean)
    torch.testing.assert_close(ours.variance, torchs.running_var)


def test_several_processes_compute_torchs_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmpq.qat.norm.world_size", lambda: 2)
    monkeypatch.setattr("gmpq.qat.norm.all_sum", lambda x: x * 2)  # both see the same images
    ours, torchs = Norm(torch.zeros(3), torch.ones(3)), nn.BatchNorm2d(3)
    torch.testing.assert_close(ours(images()), torchs(images().repeat(2, 1, 1, 1))[:8])
    torch.testing.assert_close(ours.mean, torchs.running_mean)


def test_a_norm_becomes_a_function_and_tells_it() -> None:
    norm = Norm(torch.tensor([1.0, -2.0]), torch.tensor([4.0, 0.0]))
    factor, shift = torch.tensor([-0.5, 3.0]).double(), torch.tensor([0.25, 1.0]).double()
    norm.become(factor, shift)
    for found, wanted in zip(norm.affine(), (factor, shift), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    x = torch.tensor([[2.0, 1.0]])
    torch.testing.assert_close(norm.eval()(x), (x * factor + shift).float())


def test_reestimation_is_the_plain_average_over_batches() -> None:
    norm = Norm(torch.full((3,), 9.0), torch.full((3,), 9.0)).eval()
    gamma = norm.gamma.detach().clone()
    batches = [images(seed) for seed in range(3)]
    reestimate(norm, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.mean, means)
    torch.testing.assert_close(norm.variance, variances)
    assert not norm.training
    assert norm.momentum == 0.1
    assert torch.equal(norm.gamma, gamma)
