"""A network in training and the integer graph that it emits compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gmpq import spec
from gmpq.backends.torch_codes import TorchCodes, compute
from gmpq.ir import IntGraph, Value
from gmpq.qat.emit import to_integer_graph
from gmpq.qat.network import QatNetwork
from tests.qat.nets import (
    NETWORKS,
    images,
    prepared,
    randomized,
    trained_a_little,
)

MOST_OFF = 1e-4  # of all codes: those within float rounding of the middle between two


def off_by(network: QatNetwork, graph: IntGraph, x: torch.Tensor) -> tuple[float, int]:
    """Return the share of codes that differ, each node reading the network's, and by how much."""
    with torch.no_grad():
        real = dict(network.values(x)) | {"input.float": x}
    codes = {
        name: as_codes(real[name.removesuffix(".codes")], value)
        for name, value in graph.values.items()
        if value.q is not None
    } | {"input": x}
    different = compared = worst = 0
    for node in graph.nodes:
        if graph.values[node.output].q is None:
            continue
        found = compute(graph, node, [codes[name] for name in node.inputs])
        steps = (found - codes[node.output]).abs()
        different += int((steps > 0).sum())
        worst = max(worst, int(steps.max()))
        compared += steps.numel()
    return different / compared, worst


def as_codes(real: torch.Tensor, value: Value) -> torch.Tensor:
    assert value.q is not None
    codes = real / value.q.scale + value.q.zero_point
    assert float((codes - codes.round()).abs().max()) < 1e-3, value.name
    assert value.q.low <= codes.min().round(), value.name
    assert codes.max().round() <= value.q.high, value.name
    return codes.round()


@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (3, 4), (4, 3), (8, 8)], ids=str)
@pytest.mark.parametrize("make", NETWORKS)
def test_codes_agree(make: type[nn.Module], bits: tuple[int, int]) -> None:
    network = trained_a_little(prepared(randomized(make()), *bits))
    graph = to_integer_graph(network)
    spec.check(graph)
    share, worst = off_by(network, graph, images(8, seed=9))
    assert (share, worst) <= (MOST_OFF, 1)
