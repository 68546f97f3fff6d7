from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import numpy_helper, printer

from gmpq.export.onnx import expose, serialize, to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import IntGraph, Linear, QParams
from tests.support.builders import Q8, chain, residual, weight
from tests.support.strategies import graphs, random_graph


def _fully_connected(bits: int) -> IntGraph:
    linear = Linear("fc", ("",), "", weight((3, 64), bits, Q8, Q8))
    return chain([(linear, (1, 3), Q8)], (1, 64), Q8)


@pytest.mark.parametrize("storage", WeightStorage, ids=lambda storage: storage.value)
def test_text_of_a_residual_block(
    storage: WeightStorage, matches_golden: Callable[[str, str], None]
) -> None:
    text = printer.to_text(to_onnx(residual(), storage)) + "\n"
    matches_golden(f"residual-{storage.value}.onnx.txt", text)


@given(graph=graphs())
def test_the_checker_accepts_every_graph(graph: IntGraph) -> None:
    for storage in WeightStorage:
        onnx.checker.check_model(to_onnx(graph, storage), full_check=True)


@given(graph=graphs())
def test_every_tensor_of_codes_keeps_its_name(graph: IntGraph) -> None:
    outputs = {output.name for output in expose(to_onnx(graph), graph).graph.output}
    codes = {name for name, value in graph.values.items() if value.q is not None}
    assert {*graph.outputs, *codes} == outputs


def test_equal_graphs_give_equal_bytes() -> None:
    for seed in range(20):
        first, second = random_graph(seed), random_graph(seed)
        assert serialize(to_onnx(first)) == serialize(to_onnx(second))


@pytest.mark.parametrize(
    ("bits", "opset", "ir_version"), [(8, 13, 7), (5, 13, 7), (4, 21, 10), (2, 25, 13)]
)
def test_the_lowest_opset_that_holds_the_graph(bits: int, opset: int, ir_version: int) -> None:
    model = to_onnx(_fully_connected(bits), WeightStorage.PACKED)
    assert (opset, ir_version) == (model.opset_import[0].version, model.ir_version)
    assert to_onnx(_fully_connected(bits), WeightStorage.INT8).opset_import[0].version == 13


def test_the_bits_of_each_layer_are_in_the_metadata() -> None:
    properties = {entry.key: entry.value for entry in to_onnx(residual()).metadata_props}
    assert json.loads(properties["gmpq.layers"]) == {"block.conv": {"w": 4, "a": 4}}


def test_bias_steps_are_those_of_the_accumulator() -> None:
    graph = _fully_connected(8)
    layer = graph.nodes[1]
    assert isinstance(layer, Linear)
    tensors = {tensor.name: tensor for tensor in to_onnx(graph).graph.initializer}
    written = numpy_helper.to_array(tensors["fc:bias-scale"])
    np.testing.assert_array_equal(np.float32(Q8.scale) * layer.weight.scale, written)


@pytest.mark.parametrize(("bits", "most"), [(4, 0.51), (2, 0.26)])
def test_packed_weights_shrink_the_file(bits: int, most: float) -> None:
    q = QParams.full(0.05, 0, bits)
    linear = Linear("fc", ("",), "", weight((64, 4096), bits, q, Q8))
    graph = chain([(linear, (1, 64), Q8)], (1, 4096), q)
    packed = serialize(to_onnx(graph, WeightStorage.PACKED))
    assert len(packed) < most * len(serialize(to_onnx(graph, WeightStorage.INT8)))
