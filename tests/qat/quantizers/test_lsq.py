"""LSQ: codes, gradients and first steps."""

from __future__ import annotations

import math

import pytest
import torch

from gmpq.qat.quantizers.lsq import Lsq


@pytest.mark.parametrize(
    ("bits", "signed", "levels"),
    [
        pytest.param(2, False, (0, 1, 2, 3), id="unsigned-2"),
        pytest.param(1, False, (0, 1), id="unsigned-1"),
        pytest.param(2, True, (-2, -1, 0, 1), id="signed-2"),
        pytest.param(1, True, (-1, 1), id="signed-1"),
    ],
)
def test_all_codes_occur_and_no_others(bits: int, signed: bool, levels: tuple[int, ...]) -> None:
    lsq = Lsq(bits, signed, None)
    found = torch.unique(lsq(torch.linspace(-20, 20, 401)))
    assert tuple(found.tolist()) == levels


def test_the_gradient_of_the_step_is_the_papers() -> None:
    lsq = Lsq(3, False, None)
    with torch.no_grad():
        lsq.step.fill_(0.5)
    x = torch.tensor([-1.0, 0.3, 0.8, 9.0], requires_grad=True)
    lsq(x).sum().backward()
    # below: low = 0; inside: round(v) - v; above: high = 7
    expected = (0 + (1 - 0.6) + (2 - 1.6) + 7) / math.sqrt(7 * 4)
    assert lsq.step.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(lsq.step.grad, torch.tensor(expected))
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_a_channel_has_its_own_step() -> None:
    lsq = Lsq(4, True, 2)
    weight = torch.stack([torch.linspace(-1, 1, 18), torch.linspace(-10, 10, 18)])
    lsq.start(weight.reshape(2, 2, 3, 3))
    first, second = lsq.step.tolist()
    assert second == pytest.approx(10 * first)
    assert lsq(weight.reshape(2, 2, 3, 3)).shape == (2, 2, 3, 3)


def test_signed_steps_start_by_deviation() -> None:
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0)) + 0.1
    lsq = Lsq(4, True, None)
    lsq.start(weight)
    reach = (weight.mean() + 3 * weight.std(correction=0)).item()
    assert lsq.step.item() == pytest.approx(reach / 8)


def test_unsigned_steps_start_by_the_mean() -> None:
    lsq = Lsq(2, False, None)
    lsq.start(torch.tensor([1.0, 3.0]))
    assert lsq.step.item() == pytest.approx(2 * 2 / math.sqrt(3))


def test_zeros_give_a_positive_step() -> None:
    lsq = Lsq(2, False, None)
    lsq.start(torch.zeros(4))
    assert lsq.step.item() > 0
    assert torch.isfinite(lsq(torch.ones(4))).all()


def test_a_step_that_fell_below_zero_can_rise() -> None:
    lsq = Lsq(2, False, None)
    with torch.no_grad():
        lsq.step.fill_(-1.0)
    lsq(torch.ones(4)).sum().backward()
    assert lsq.step.grad is not None
    assert lsq.step.grad.item() > 0


@pytest.mark.parametrize(("bits", "signed"), [(4, False), (8, True), (1, True)])
def test_values_are_exactly_codes_times_the_step(bits: int, signed: bool) -> None:
    lsq = Lsq(bits, signed, None)
    x = torch.randn(500, generator=torch.Generator().manual_seed(1))
    lsq.start(x)
    y = lsq(x)
    assert torch.equal(y, torch.round(y / lsq.step) * lsq.step)
