"""A trained graph compiles for its own network and policy only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gmpq.errors import PolicyError
from gmpq.ir import FloatGraph, IntGraph
from gmpq.passes.check_trained import check_trained
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from tests.support.float_graphs import FloatDraft, statistics_of, uniform


def made(outputs: int = 4, names: tuple[str, str] = ("conv", "fc")) -> FloatGraph:
    draft = FloatDraft()
    x = draft.conv(names[0], "input", outputs)
    return draft.graph(draft.linear(names[1], draft.flatten("flat", draft.mean("mean", x)), 3))


def quantized(graph: FloatGraph, output_bits: int | None = None) -> IntGraph:
    options = QuantizeOptions(output_bits=output_bits)
    return quantize_network(graph, uniform(graph, 4, 4), statistics_of(graph), options)


def test_its_own_network_fits() -> None:
    graph = made()
    check_trained(quantized(graph), graph, uniform(graph, 4, 4))


@pytest.mark.parametrize(
    ("graph", "bits", "message"),
    [
        pytest.param(made(), (3, 4), "layer 'conv' has w=4, a=4, the policy says w=3", id="w"),
        pytest.param(made(), (4, 3), "layer 'conv' has w=4, a=4, the policy says w=4, a=3", id="a"),
        pytest.param(made(outputs=5), (4, 4), r"has a weight \[4, 3, 3, 3\]", id="shape"),
        pytest.param(
            made(names=("conv1", "fc")), (4, 4), "is not in the network .did you mean", id="name"
        ),
    ],
)
def test_another_network_or_policy_does_not(
    graph: FloatGraph, bits: tuple[int, int], message: str
) -> None:
    with pytest.raises(PolicyError, match=message):
        check_trained(quantized(made()), graph, uniform(graph, *bits))


@pytest.mark.parametrize(
    ("trained", "asked", "message"),
    [
        (None, 8, "layer 'fc' writes float32, by the policy codes: finetune again, or take"),
        (8, None, "layer 'fc' writes codes, by the policy float32: finetune again, or add"),
    ],
)
def test_outputs_are_those_of_the_policy(
    trained: int | None, asked: int | None, message: str
) -> None:
    graph, bits = made(), uniform(made(), 4, 4)
    check_trained(quantized(graph, trained), graph, bits, trained)
    with pytest.raises(PolicyError, match=message):
        check_trained(quantized(graph, trained), graph, bits, asked)


def test_an_illegal_graph_is_told() -> None:
    graph = quantized(made())
    broken = replace(graph, nodes=graph.nodes[:-1])
    with pytest.raises(PolicyError, match="not a legal graph"):
        check_trained(broken, made(), {"conv": LayerBits(4, 4), "fc": LayerBits(4, 4)})
