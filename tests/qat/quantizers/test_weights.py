"""Weights as HAQ and as EdMIPS quantize them, and HWGQ activations."""

from __future__ import annotations

import pytest
import torch

from gmpq.errors import PolicyError
from gmpq.qat.quantizers import haq, hwgq

NORMAL = torch.randn(4000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("bits", "levels"), [(1, 2), (2, 3), (3, 7), (4, 15), (6, 63)])
def test_haq_has_odd_levels(bits: int, levels: int) -> None:
    limit = haq.largest(NORMAL)
    found = torch.unique(haq.quantize_weight(torch.linspace(-9, 9, 2001), bits, limit))
    assert len(found) == levels
    assert found.max() == limit


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_edmips_has_even_levels_without_zero(bits: int) -> None:
    found = torch.unique(hwgq.quantize_weight(NORMAL, bits))
    assert len(found) == 1 << bits
    assert found.abs().min() > 0


@pytest.mark.parametrize(("bits", "largest"), [(1, 0.799), (2, 1.614), (3, 2.2519), (4, 2.775)])
def test_hwgq_clips_at_its_last_level(bits: int, largest: float) -> None:
    found = torch.unique(hwgq.quantize_activation(NORMAL * 9, bits))
    assert len(found) == 1 << bits
    assert found.max().item() == pytest.approx(largest)


def test_weights_pass_gradients_everywhere() -> None:
    for quantized in (
        lambda w: haq.quantize_weight(w, 3, torch.tensor(1.0)),
        lambda w: hwgq.quantize_weight(w, 3),
    ):
        weight = NORMAL.clone().requires_grad_()
        quantized(weight).sum().backward()
        assert weight.grad is not None
        assert torch.equal(weight.grad, torch.ones_like(weight))


def test_activations_pass_gradients_inside_the_clip() -> None:
    x = torch.tensor([-1.0, 0.5, 9.0], requires_grad=True)
    hwgq.quantize_activation(x, 2).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0]


def test_hwgq_has_no_steps_for_five_bits() -> None:
    with pytest.raises(PolicyError, match="1 to 4 bits, got 5: use LSQ or PACT"):
        hwgq.quantize_weight(NORMAL, 5)
