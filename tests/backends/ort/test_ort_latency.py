from __future__ import annotations

from onnx import NodeProto, helper

from gmpq.backends.ort.latency import layer_samples
from gmpq.backends.ort.optimized import optimize, owners
from gmpq.export.onnx import to_onnx
from tests.support.builders import residual
from tests.support.strategies import random_graph, random_input


def test_every_operator_has_an_owner() -> None:
    for seed in range(40):
        graph = random_graph(seed)
        optimized = optimize(to_onnx(graph))
        owned = owners(optimized, graph)
        assert {op.name for op in optimized.graph.node} == set(owned)
        assert {node.name for node in graph.nodes} >= set(owned.values())


def test_each_node_has_a_sample_per_run() -> None:
    graph = residual()
    samples = layer_samples(to_onnx(graph), graph, random_input(graph, 0), threads=1, runs=7)
    assert [node.name for node in graph.nodes] == list(samples)
    for times_ms in samples.values():
        assert len(times_ms) == 7
        assert min(times_ms) >= 0


def test_layouts_belong_to_the_node_that_they_read() -> None:
    graph = residual()
    nodes: list[NodeProto] = [
        helper.make_node("Transpose", ["x"], ["a"], name="Transpose"),
        helper.make_node("QLinearConv", ["a"], ["b"], name="block.conv_token_3"),
        helper.make_node("Transpose", ["b"], ["c"], name="Transpose_token_4"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "optimized", [], []))
    assert owners(model, graph) == {
        "Transpose": "block.conv",
        "block.conv_token_3": "block.conv",
        "Transpose_token_4": "block.conv",
    }
