"""Published BOPs of one policy are one number, whoever counts them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gmpq import models
from gmpq.errors import SearchError
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.policy import LayerBits
from gmpq.search.differentiable.deployment import deployment_space
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.ilp import constraints
from gmpq.search.ilp.bounds import Bounds, to_table
from gmpq.search.ilp.candidates import WIDE, Candidates
from gmpq.search.ilp.space import space_of

BITS = (2, 3, 4)
# The last layer of a SqueezeNet is a convolution, whose bits GMPQ searches.
NETWORKS = {"cifar_resnet8": (3, 12, 12), "squeezenet1_1": (3, 33, 33)}


@pytest.mark.parametrize("fixed", [WIDE, None], ids=["first-last-kept", "first-last-searched"])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_counts_agree(name: str, fixed: LayerBits | None) -> None:
    graph = lower(models.find(name).build(), (1, *NETWORKS[name]), name)
    space = space_of(graph, BITS, BITS, first_last_bits=fixed)
    assignment = np.random.default_rng(0).integers(0, len(BITS), (len(space.searched), 2))
    bits = space.bits(assignment)
    expected = cost.measure(graph, bits).published_bops
    assert constraints.published_bops(space, 0.0).total(assignment) == pytest.approx(expected)
    shown = re.search(r"published convention +(\S+) G", to_table(space, bits))
    assert shown is not None
    assert shown[1] == f"{expected / 1e9:.3f}"


@pytest.mark.parametrize("name", NETWORKS)
def test_gmpq_counts_the_same(name: str) -> None:
    module, shape = models.find(name).build(), NETWORKS[name]
    info = inspect_network(module, shape)
    graph = lower(module, (1, *shape), name)
    pairs = np.random.default_rng(0).integers(2, 7, (len(info.searched), 2))
    found = tuple(LayerBits(w, a) for w, a in pairs.tolist())
    bits = dict.fromkeys(cost.layer_names(graph), LayerBits(8, 8))
    bits |= {layer.name: pair for layer, pair in zip(info.searched, found, strict=True)}
    space = deployment_space(info, info, Candidates(), LayerBits(8, 8))
    expected = cost.measure(graph, bits)
    assert space.named(found) == bits
    assert constraints.total_bops(space, bits) == expected.bops
    assert constraints.total_published_bops(space, bits) == pytest.approx(expected.published_bops)


def test_random_bits_of_the_ends_have_no_published_level() -> None:
    graph = lower(models.find("cifar_resnet8").build(), (1, 3, 12, 12), "net")
    with pytest.raises(SearchError, match="leave out the first and the last layer"):
        Bounds(published_bops=1e6).level(space_of(graph, BITS, BITS, first_last_bits=None))
