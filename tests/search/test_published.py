"""Published BOPs of one policy are one number, whoever counts them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gmpq import models
from gmpq.errors import SearchError
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.policy import LayerBits, ModelSpec
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.differentiable.search import Deployment
from gmpq.search.ilp import constraints
from gmpq.search.ilp.bounds import Bounds, to_table
from gmpq.search.ilp.space import WIDE, space_of

BITS = (2, 3, 4)
# The last layer of a SqueezeNet is a convolution: GMPQ searches its bits, --ends all ends'.
NETWORKS = {"cifar_resnet8": (3, 12, 12), "squeezenet1_1": (3, 33, 33)}


@pytest.mark.parametrize("ends", [WIDE, None], ids=["ends-kept", "ends-searched"])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_counts_agree(name: str, ends: LayerBits | None) -> None:
    graph = lower(models.find(name).build(), (1, *NETWORKS[name]), name)
    space = space_of(graph, BITS, BITS, ends=ends)
    assignment = np.random.default_rng(0).integers(0, len(BITS), (len(space.searched), 2))
    bits = space.bits(assignment)
    expected = cost.measure(graph, bits).published_bops
    assert constraints.published_bops(space, 0.0).total(assignment) == pytest.approx(expected)
    told = re.search(r"published convention +(\S+) G", to_table(space, bits))
    assert told is not None
    assert told[1] == f"{expected / 1e9:.3f}"


@pytest.mark.parametrize("name", NETWORKS)
def test_gmpq_counts_the_same(name: str) -> None:
    module, shape = models.find(name).build(), NETWORKS[name]
    info = inspect_network(module, shape)
    graph = lower(module, (1, *shape), name)
    pairs = np.random.default_rng(0).integers(2, 7, (len(info.searched), 2))
    found = tuple(LayerBits(w, a) for w, a in pairs.tolist())
    bits = dict.fromkeys(cost.layer_names(graph), LayerBits(8, 8))
    bits |= {layer.name: pair for layer, pair in zip(info.searched, found, strict=True)}
    bill = Deployment(info.layers, ModelSpec(), LayerBits(8, 8)).bill(info)
    expected = cost.measure(graph, bits)
    assert bill.of(found) == expected.bops
    assert bill.published(found) == pytest.approx(expected.published_bops)


def test_random_bits_of_the_ends_have_no_published_level() -> None:
    graph = lower(models.find("cifar_resnet8").build(), (1, 3, 12, 12), "net")
    with pytest.raises(SearchError, match="leave out the first and the last layer"):
        Bounds(published_bops=1e6).level(space_of(graph, BITS, BITS, ends=None))
