"""One convolution of mixed copies, and the levels that each quantizer has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmpq.qat.quantizers import haq
from gmpq.qat.quantizers.pact import Pact
from gmpq.search.differentiable.mixed_conv import MixedConv2d
from gmpq.search.differentiable.quantizers import (
    HAQ,
    HWGQ,
    LSQ,
    RUNNING,
    FrozenLimitWeights,
    PactActivations,
    Quantizers,
    RunningLimitWeights,
    find,
    mix,
)
from gmpq.search.differentiable.settings import QuantizerKind
from gmpq.search.ilp.candidates import Candidates

ALL = torch.ones(1)  # the share of a single copy
CANDIDATES = Candidates((2, 3, 4), (2, 4))


def mixed_conv(quantizers: Quantizers = HAQ, *, signed: bool = False) -> MixedConv2d:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", groups=2)
    return MixedConv2d(conv, CANDIDATES, quantizers, signed=signed)


def test_it_is_one_convolution_of_mixtures() -> None:
    layer = mixed_conv()
    with torch.no_grad():
        layer.weight_logits.copy_(torch.tensor([0.3, -1.0, 2.0]))
        layer.input_logits.copy_(torch.tensor([0.5, -0.5]))
    x = 3 * torch.rand(2, 4, 5, 5)
    weight, limit = layer.conv.weight.detach(), layer.conv.weight.detach().abs().max()
    shares = torch.tensor([0.3, -1.0, 2.0]).softmax(0)
    mixed = sum(
        share * haq.quantize_weight(weight, bits, limit)
        for share, bits in zip(shares, CANDIDATES.weight_bits, strict=True)
    )
    low, high = torch.tensor([0.5, -0.5]).softmax(0)
    inputs = low * Pact(2)(x) + high * Pact(4)(x)
    plain = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", groups=2)
    plain.load_state_dict({"weight": mixed, "bias": layer.conv.bias})
    torch.testing.assert_close(layer(x), plain(inputs))


@pytest.mark.parametrize("kind", QuantizerKind, ids=lambda each: each.value)
def test_gradients_reach_everything(kind: QuantizerKind) -> None:
    layer = mixed_conv(find(kind))
    layer(10 * torch.rand(2, 4, 5, 5)).square().sum().backward()
    without = [
        name
        for name, value in layer.named_parameters()
        if value.grad is None or not value.grad.any()
    ]
    assert without == []


@pytest.mark.parametrize(
    ("quantizers", "levels"),
    [
        pytest.param(HAQ, 3, id="haq"),
        pytest.param(RUNNING, 3, id="running"),
        pytest.param(LSQ, 4, id="lsq"),
        pytest.param(HWGQ, 4, id="edmips-mid-rise"),
    ],
)
def test_levels_of_two_bits(quantizers: Quantizers, levels: int) -> None:
    weight = torch.randn(999, generator=torch.Generator().manual_seed(0))
    copy = quantizers.weights((2,))(weight, ALL)
    assert len(copy.unique()) == levels


def test_expected_bits_at_the_start() -> None:
    weight, inputs = mixed_conv().expected_bits()
    assert weight.item() == pytest.approx(3)
    assert inputs.item() == pytest.approx(3)


def test_the_released_limit_is_frozen_at_the_first_pass() -> None:
    frozen, running = FrozenLimitWeights((8,)), RunningLimitWeights((8,))
    for weights in (frozen, running):
        weights(torch.tensor([-2.0, 1.0]), ALL)
    small = torch.tensor([-0.01, 0.005])
    assert frozen(small, ALL).unique().numel() == 2
    assert frozen.state_dict()["limit"] == 2
    torch.testing.assert_close(running(small, ALL), small, atol=1e-4, rtol=0)


def test_signed_inputs_keep_their_sign() -> None:
    x = torch.tensor([-7.0, -2.0, 0.0, 2.0])
    copy = PactActivations((3,), signed=True)(x, ALL)
    assert copy.tolist() == [-6, -2, 0, 2]
    copy = PactActivations((3,), signed=False)(x, ALL)
    assert copy[:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("signed", [False, True])
def test_the_mixture_in_little_memory_is_that_of_its_copies(signed: bool) -> None:
    torch.manual_seed(0)
    x = 6 * torch.randn(3, 4, 5)
    x[0, 0, :3] = torch.tensor([2.0, -2.0, 0.0])
    bits, upstream = (1, 2, 3, 8), torch.randn(3, 4, 5)
    found = []
    for mixed in (True, False):
        module, leaf = PactActivations(bits, signed), x.clone().requires_grad_()
        logits = torch.tensor([0.1, -0.4, 0.3, 1.0], requires_grad=True)
        for branch, clip in zip(module.branches, (2.0, 9.0, -1.0, 4.0), strict=True):
            branch.clip.data.fill_(clip)
        shares = logits.softmax(0)
        copies = (branch(leaf) for branch in module.branches)
        output = module(leaf, shares) if mixed else mix(copies, shares)
        output.backward(upstream)
        clips = [branch.clip.grad for branch in module.branches]
        found.append([output.detach(), leaf.grad, logits.grad, torch.stack(clips)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
