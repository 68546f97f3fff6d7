"""Trained weights go back into the module, which then computes what the network trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gmpq.errors import LoweringError
from gmpq.ir import Conv2d, FloatConv2d, FloatLinear, Linear
from gmpq.lower import lower
from gmpq.lower.network import lower_trainable
from gmpq.qat.build import build
from gmpq.qat.emit import to_integer_graph
from gmpq.qat.weights import find_owners, write_back
from tests.qat.nets import NETWORKS, SHAPE, images, randomized, trained_a_little, uniform
from tests.support.networks import Call


@pytest.mark.parametrize("make", NETWORKS)
def test_an_untrained_network_writes_back_what_it_read(make: type[nn.Module]) -> None:
    module = randomized(make())
    lowered = lower_trainable(module, SHAPE, "net")
    network = build(lowered, uniform(lowered, 8, 8), [images(16)])
    state = write_back(module, network, find_owners(module, lowered))
    x = images(4, seed=2)
    with torch.no_grad():
        wanted = module(x)
        module.load_state_dict(state)
        torch.testing.assert_close(module(x), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", NETWORKS)
def test_a_trained_network_lowers_to_its_own_weights(make: type[nn.Module]) -> None:
    module = randomized(make())
    lowered = lower_trainable(module, SHAPE, "net")
    network = trained_a_little(build(lowered, uniform(lowered, 8, 8), [images(16)]))
    module.load_state_dict(write_back(module, network, find_owners(module, lowered)))
    graph = to_integer_graph(network)
    layers = {node.name: node for node in graph.nodes if isinstance(node, Conv2d | Linear)}
    for node in lower(module, SHAPE, "net").nodes:
        if isinstance(node, FloatConv2d | FloatLinear):
            weight, q = layers[node.name].weight, graph.values[layers[node.name].inputs[0]].q
            assert q is not None
            scale = weight.scale.reshape(-1, *[1] * (node.weight.ndim - 1))
            inside = np.abs(weight.codes) < 127
            assert (np.abs(node.weight / scale - weight.codes)[inside] < 0.51).all()
            assert (np.abs(node.bias / (q.scale * weight.scale) - weight.bias) < 0.6).all()


def test_weights_that_are_used_twice_are_refused() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    module = Call(lambda x, layer: layer(layer(x)), conv).eval()
    lowered = lower_trainable(module, SHAPE, "net")
    with pytest.raises(LoweringError, match="not that of one module that is called once"):
        find_owners(module, lowered)
