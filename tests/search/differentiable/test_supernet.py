"""The supernet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gmpq import models
from gmpq.errors import GmpqError, SearchError
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.differentiable.mixed_conv import MixedConv2d
from gmpq.search.differentiable.settings import QuantizerKind, Settings
from gmpq.search.differentiable.supernet import (
    make_supernet,
    mixed_convs,
    restart_weights,
    with_classes,
)
from gmpq.search.ilp.candidates import Candidates
from tests.search.differentiable.small import SHAPE, Small, small


@pytest.mark.parametrize("name", ["cifar_resnet8", "mobilenet_v2"])
def test_all_searched_layers_are_replaced(name: str) -> None:
    network = models.find(name).build()
    shape = (3, 32, 32)
    info = inspect_network(network, shape)
    made = make_supernet(network, info, Settings())
    assert len(mixed_convs(made, info)) == len(info.searched)
    assert not any(isinstance(part, MixedConv2d) for part in network.modules())
    assert made(torch.rand(2, *shape)).shape == (2, info.classes)


def test_a_layer_that_is_used_under_two_names() -> None:
    network = Small()
    network.alias = network.wide
    made = make_supernet(network, inspect_network(network, SHAPE), Settings())
    assert made.alias is made.wide


def test_hwgq_refuses_signed_inputs_and_many_bits() -> None:
    network = small()
    info = inspect_network(network, SHAPE)
    few = Settings(Candidates((2, 3), (2, 3)), QuantizerKind.HWGQ)
    with pytest.raises(SearchError, match=r"^wide: HWGQ quantizes no negative inputs"):
        make_supernet(network, info, few)
    with pytest.raises(SearchError, match="hwgq: quantizes to at most 4 bits, got 6"):
        make_supernet(network, info, replace(few, candidates=Settings().candidates))


@pytest.mark.parametrize("bits", [(), (3, 2), (2, 2), (0, 2), (2, 9)], ids=str)
def test_bits_that_no_policy_may_have(bits: tuple[int, ...]) -> None:
    with pytest.raises(GmpqError, match=r"give rising numbers|bits out of range"):
        Candidates(bits)


def test_weights_start_from_the_seed() -> None:
    first, second = Small(), Small()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    restart_weights(first, 1)
    restart_weights(second, 1)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_other_classes() -> None:
    network = small()
    changed = with_classes(network, inspect_network(network, SHAPE), 7)
    assert changed(torch.rand(2, *SHAPE)).shape == (2, 7)
    assert network(torch.rand(2, *SHAPE)).shape == (2, 3)
