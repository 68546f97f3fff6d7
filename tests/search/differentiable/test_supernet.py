"""The search network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gmpq import models
from gmpq.errors import SearchError
from gmpq.search.differentiable.inspect import survey
from gmpq.search.differentiable.mixed_conv import CompositeConv2d
from gmpq.search.differentiable.quantizers import HWGQ
from gmpq.search.differentiable.settings import Settings, Space
from gmpq.search.differentiable.supernet import (
    composites,
    restart_weights,
    search_network,
    with_classes,
)
from tests.search.differentiable.small import SHAPE, Small, small


@pytest.mark.parametrize("name", ["cifar_resnet8", "mobilenet_v2"])
def test_all_searched_layers_are_replaced(name: str) -> None:
    network = models.find(name).build()
    shape = (3, 32, 32)
    surveyed = survey(network, shape)
    made = search_network(network, surveyed, Settings())
    assert len(composites(made, surveyed)) == len(surveyed.searched)
    assert not any(isinstance(part, CompositeConv2d) for part in network.modules())
    assert made(torch.rand(2, *shape)).shape == (2, surveyed.classes)


def test_a_layer_that_is_used_under_two_names() -> None:
    network = Small()
    network.alias = network.wide
    made = search_network(network, survey(network, SHAPE), Settings())
    assert made.alias is made.wide


def test_hwgq_refuses_signed_inputs_and_many_bits() -> None:
    network = small()
    surveyed = survey(network, SHAPE)
    few = Settings(Space((2, 3), (2, 3)), HWGQ)
    with pytest.raises(SearchError, match=r"^wide: HWGQ quantizes no negative inputs"):
        search_network(network, surveyed, few)
    with pytest.raises(SearchError, match="hwgq: quantizes to at most 4 bits, got 6"):
        search_network(network, surveyed, replace(few, space=Space()))


@pytest.mark.parametrize("bits", [(), (3, 2), (2, 2), (0, 2), (2, 9)], ids=str)
def test_bits_that_no_policy_may_have(bits: tuple[int, ...]) -> None:
    with pytest.raises(SearchError, match="weight bits: got"):
        Space(weights=bits)


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
    changed = with_classes(network, survey(network, SHAPE), 7)
    assert changed(torch.rand(2, *SHAPE)).shape == (2, 7)
    assert network(torch.rand(2, *SHAPE)).shape == (2, 3)
