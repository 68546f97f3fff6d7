from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gmpq.errors import LoweringError, PolicyError, WeightsError
from gmpq.ir import FloatConv2d, FloatGraph
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from tests.support.float_graphs import FloatDraft, statistics_of, uniform


def test_softmax_in_the_middle_is_refused() -> None:
    draft = FloatDraft(shape=(1, 6))
    softmax = draft.softmax("attention", draft.linear("fc", "input", 4))
    graph = draft.graph(draft.linear("after", softmax, 4))
    with pytest.raises(LoweringError, match="'attention': softmax"):
        _quantize(graph, uniform(graph, 8, 8))


def test_a_layer_without_bits_is_named_with_its_neighbours() -> None:
    draft = FloatDraft()
    draft.conv("layer1.conv1", "input", 4)
    with pytest.raises(PolicyError, match=r"'layer1.conv1' has no bits .*layer1.conv2"):
        _quantize(draft.graph("layer1.conv1"), {"layer1.conv2": LayerBits(8, 8)})


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "inf"])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    draft = FloatDraft()
    draft.conv("conv", "input", 4)
    graph = draft.graph("conv")
    statistics = statistics_of(graph)
    (node,) = graph.nodes
    assert isinstance(node, FloatConv2d)
    weight = node.weight.copy()
    weight[1, 2, 0, 1] = bad
    broken = replace(graph, nodes=(replace(node, weight=weight),))
    with pytest.raises(WeightsError, match="layer 'conv': weight holds nan or inf"):
        quantize_network(broken, uniform(graph, 8, 8), statistics, QuantizeOptions())


def _quantize(graph: FloatGraph, bits: dict[str, LayerBits]) -> None:
    quantize_network(graph, bits, statistics_of(graph), QuantizeOptions())
