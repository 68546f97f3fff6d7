"""PACT: codes and the gradient of the clip."""

from __future__ import annotations

import pytest
import torch

from gmpq.qat.quantizers.pact import Pact


def test_the_clip_starts_at_six_and_is_a_level() -> None:
    assert Pact(2)(torch.tensor([9.0])).item() == 6.0


@pytest.mark.parametrize(
    ("bits", "signed", "levels"),
    [
        pytest.param(2, False, (0.0, 2.0, 4.0, 6.0), id="unsigned-2"),
        pytest.param(2, True, (-6.0, 0.0, 6.0), id="signed-2"),
        pytest.param(1, True, (-6.0, 6.0), id="signed-1"),
    ],
)
def test_all_levels_occur_and_no_others(bits: int, signed: bool, levels: tuple[float, ...]) -> None:
    found = torch.unique(Pact(bits, signed)(torch.linspace(-20, 20, 401)))
    assert tuple(found.tolist()) == levels


def test_the_clip_gets_a_gradient_where_it_clips() -> None:
    pact = Pact(4, signed=True)
    x = torch.tensor([-9.0, -8.0, 1.0, 7.0], requires_grad=True)
    (pact(x) * torch.tensor([1.0, 1.0, 1.0, 5.0])).sum().backward()
    assert pact.clip.grad is not None
    assert x.grad is not None
    assert pact.clip.grad.item() == pytest.approx(5 - 2)
    assert x.grad.tolist() == [0, 0, 1, 0]


def test_an_unsigned_clip_gets_none_below_zero() -> None:
    pact = Pact(4)
    pact(torch.tensor([-9.0, 7.0])).sum().backward()
    assert pact.clip.grad is not None
    assert pact.clip.grad.item() == pytest.approx(1)
