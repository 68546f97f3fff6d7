from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmpq.ir import Clamp, FloatConv2d, FloatGraph, FloatLinear, Function, LeakyRelu, PRelu, Silu
from gmpq.passes.equalize import equalize
from tests.support.float_graphs import RELU, FloatDraft, float_values, images, random_float_graph

SLOPES = np.array([0.1, -0.2, 0.3, 0.0, 0.5, 1.5], np.float32)


@settings(max_examples=20)
@given(graph=st.builds(random_float_graph, st.integers(0, 2**32 - 1), st.integers(1, 6)))
def test_the_function_stays(graph: FloatGraph) -> None:
    _check_same_function(graph, equalize(graph))


@pytest.mark.parametrize("groups", [1, 2, 6], ids=["dense", "grouped", "depthwise"])
@pytest.mark.parametrize(
    "function", [RELU, LeakyRelu(0.2), PRelu(SLOPES)], ids=["relu", "leaky", "prelu"]
)
def test_neighbours_share_their_ranges(function: Function, groups: int) -> None:
    draft = FloatDraft()
    hidden = draft.act("act", draft.conv("first", "input", 6), function)
    draft.conv("second", draft.max_pool("pool", hidden), 6, groups=groups)
    graph = draft.graph("second")
    found = equalize(graph)
    _check_same_function(graph, found)
    first, second = (node for node in found.nodes if isinstance(node, FloatConv2d))
    written = np.abs(first.weight).max(axis=(1, 2, 3))
    split = second.weight.reshape(groups, -1, 6 // groups, 3, 3)
    read = np.abs(split).max(axis=(1, 3, 4)).reshape(-1)
    np.testing.assert_allclose(written, read, rtol=1e-4)


def test_a_chain_through_the_classifier_settles() -> None:
    draft = FloatDraft()
    x = "input"
    for index in range(3):
        x = draft.act(f"relu{index}", draft.conv(f"conv{index}", x, 5), RELU)
    draft.linear("fc", draft.flatten("flatten", draft.mean("mean", x)), 4)
    graph = draft.graph("fc")
    found = equalize(graph)
    _check_same_function(graph, found)
    last, fc = found.nodes[4], found.nodes[-1]
    assert isinstance(last, FloatConv2d)
    assert isinstance(fc, FloatLinear)
    written, read = np.abs(last.weight).max(axis=(1, 2, 3)), np.abs(fc.weight).max(axis=0)
    np.testing.assert_allclose(written, read, rtol=0.01)


@pytest.mark.parametrize("function", [Clamp(0.0, 6.0), Silu()], ids=["relu6", "silu"])
def test_other_activations_are_left_alone(function: Function) -> None:
    draft = FloatDraft()
    draft.conv("second", draft.act("act", draft.conv("first", "input", 6), function), 6)
    _check_untouched(draft.graph("second"))


def test_a_value_that_others_read_is_left_alone() -> None:
    draft = FloatDraft()
    hidden = draft.act("relu", draft.conv("first", "input", 6), RELU)
    draft.add("add", draft.conv("second", hidden, 6), hidden)
    _check_untouched(draft.graph("add"))
    _check_untouched(draft.graph("add", "relu"))


def test_dead_channels_change_nothing() -> None:
    draft = FloatDraft()
    hidden = draft.act("relu", draft.conv("first", "input", 6), RELU)
    draft.conv("second", hidden, 4)
    graph = draft.graph("second")
    first, second = (node for node in graph.nodes if isinstance(node, FloatConv2d))
    first.weight[2] = 0
    second.weight[:, 4] = 0
    found = [node for node in equalize(graph).nodes if isinstance(node, FloatConv2d)]
    np.testing.assert_array_equal(first.weight[[2, 4]], found[0].weight[[2, 4]])
    np.testing.assert_array_equal(second.weight[:, [2, 4]], found[1].weight[:, [2, 4]])
    _check_same_function(graph, equalize(graph))


def _check_untouched(graph: FloatGraph) -> None:
    for before, after in zip(graph.nodes, equalize(graph).nodes, strict=True):
        if isinstance(before, FloatConv2d) and isinstance(after, FloatConv2d):
            np.testing.assert_array_equal(before.weight, after.weight)


def _check_same_function(before: FloatGraph, after: FloatGraph) -> None:
    x = images(before.values["input"].shape, 2)
    expected, found = float_values(before, x), float_values(after, x)
    for name in before.outputs:
        tolerance = 1e-5 * max(1.0, float(np.abs(expected[name]).max()))
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=tolerance)
