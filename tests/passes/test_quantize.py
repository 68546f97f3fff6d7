from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmpq.backends import reference
from gmpq.backends.torch_codes import TorchCodes
from gmpq.calib.collect import collect
from gmpq.calib.observers import MinMax
from gmpq.ir import (
    Activation,
    Clamp,
    Conv2d,
    Dequantize,
    FloatConv2d,
    FloatGraph,
    IntGraph,
    Linear,
    Lookup,
    QParams,
    Quantize,
    Requantize,
    Silu,
    Softmax,
)
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.passes.quantize import quantize
from gmpq.passes.weights import WeightObserver
from gmpq.policy import LayerBits
from tests.support.float_graphs import (
    RELU,
    FloatDraft,
    float_values,
    images,
    random_bits,
    random_float_graph,
    statistics_of,
    uniform,
)

MIN_MAX = QuantizeOptions(MinMax(), WeightObserver.MIN_MAX, bias_correct=False)

random_graphs = st.builds(random_float_graph, st.integers(0, 2**32 - 1), st.integers(1, 6))


def test_a_layer_and_its_relu_become_one_node() -> None:
    draft = FloatDraft()
    draft.act("relu", draft.conv("conv", "input", 4), RELU)
    graph = _quantized(draft.graph("relu"), {"conv": LayerBits(4, 5)})
    assert [type(node) for node in graph.nodes] == [Quantize, Conv2d, Dequantize]
    assert [node.output for node in graph.nodes] == ["input.codes", "relu.codes", "relu"]
    assert graph.nodes[1].name == "conv"
    assert _q(graph, "input.codes").bits == 5
    assert _q(graph, "relu.codes").bits == 8
    assert _q(graph, "relu.codes").zero_point == 0


def test_relu6_clips_at_the_code_of_6() -> None:
    draft = FloatDraft()
    conv = draft.conv("conv", "input", 4)
    draft.conv("after", draft.act("relu6", conv, Clamp(0.0, 6.0)), 4)
    float_graph = draft.graph("after")
    ranges = dict.fromkeys(float_graph.values, (-1.0, 10.0)) | {"relu6": (0.0, 10.0)}
    bits = uniform(float_graph, 8, 8)
    graph = quantize(float_graph, bits, lambda v, _: ranges[v], WeightObserver.MIN_MAX)
    q = _q(graph, "relu6")
    assert (q.zero_point, q.low, q.high) == (0, 0, 153)
    assert q.high == round(6 / q.scale)


def test_a_clamp_that_others_see_behind_is_a_table() -> None:
    draft = FloatDraft()
    conv = draft.conv("conv", "input", 3)
    relu = draft.act("relu", conv, RELU)
    draft.add("add", conv, relu)
    graph = _quantized(draft.graph("add"), {"conv": LayerBits(8, 8)})
    lookup = next(node for node in graph.nodes if isinstance(node, Lookup))
    assert (lookup.name, lookup.inputs, lookup.function) == ("relu", ("conv",), RELU)
    assert lookup.table.shape == (256,)


def test_narrow_readers_share_one_requantized_copy() -> None:
    draft = FloatDraft()
    x = draft.act("relu", draft.conv("conv", "input", 4), RELU)
    layers = [draft.conv(name, x, 4) for name in ("a", "b", "c", "d")]
    bits = {name: LayerBits(8, a) for name, a in zip("abcd", (6, 4, 4, 3), strict=True)}
    graph = _quantized(draft.graph(*layers), bits | {"conv": LayerBits(8, 8)})
    read = {node.name: node.inputs[0] for node in graph.nodes if isinstance(node, Conv2d)}
    assert {"a": "relu", "b": "relu.a4", "c": "relu.a4", "d": "relu.a3"}.items() <= read.items()
    copies = [node for node in graph.nodes if isinstance(node, Requantize)]
    assert {(node.inputs[0], node.output) for node in copies} == {
        ("relu", "relu.a4"),
        ("relu", "relu.a3"),
    }
    assert [_q(graph, name).bits for name in ("relu", "relu.a4", "relu.a3")] == [6, 4, 3]
    assert _q(graph, "relu.a4").scale > 3 * _q(graph, "relu").scale


def test_a_residual_stream_has_8_bits_and_one_scale() -> None:
    draft = FloatDraft(shape=(1, 4, 8, 8))
    stem = draft.act("stem.relu", draft.conv("stem", "input", 4), RELU)
    branch = draft.conv("branch", stem, 4)
    out = draft.act("out", draft.add("add", branch, stem), RELU)
    last = draft.conv("last", out, 4)
    float_graph = draft.graph(last)
    graph = _quantized(float_graph, uniform(float_graph, 4, 4))
    stream = [_q(graph, name) for name in ("stem.relu", "branch", "out")]
    assert [q.bits for q in stream] == [8, 8, 8]
    assert len({q.scale for q in stream}) == 1
    assert [q.zero_point for q in stream[::2]] == [0, 0]
    assert stream[1].zero_point > 0
    assert {node.output for node in graph.nodes if isinstance(node, Requantize)} == {
        "stem.relu.a4",
        "out.a4",
    }


def test_concat_inside_a_residual_stream_shares_zero_points_too() -> None:
    draft = FloatDraft(shape=(1, 4, 8, 8))
    parts = [draft.conv("a", "input", 2), draft.act("silu", draft.conv("b", "input", 2), Silu())]
    joined = draft.concat("concat", *parts)
    draft.add("add", joined, draft.conv("c", "input", 4))
    float_graph = draft.graph("add")
    graph = _quantized(float_graph, uniform(float_graph, 3, 3))
    q = {name: _q(graph, name) for name in ("a", "silu", "concat", "c", "add.codes")}
    assert len({(q[n].scale, q[n].zero_point, q[n].bits) for n in ("a", "silu", "concat")}) == 1
    assert len({p.scale for p in q.values()}) == 1
    assert {p.bits for p in q.values()} == {8}
    assert _q(graph, "b").scale != q["silu"].scale  # a table has its own input scale


def test_values_that_only_pooling_reads_have_8_bits() -> None:
    draft = FloatDraft()
    relu = draft.act("relu", draft.conv("conv", "input", 4), RELU)
    draft.linear("fc", draft.flatten("flatten", draft.mean("mean", relu)), 5)
    float_graph = draft.graph("fc")
    graph = _quantized(float_graph, uniform(float_graph, 8, 4))
    bits = [_q(graph, name).bits for name in ("input.codes", "relu", "mean", "flatten")]
    assert bits == [4, 8, 4, 4]


def test_max_pooling_keeps_the_bits_of_the_layer_behind_it() -> None:
    draft = FloatDraft()
    relu = draft.act("relu", draft.conv("conv", "input", 4), RELU)
    draft.conv("next", draft.max_pool("pool", relu), 4)
    graph = _quantized(draft.graph("next"), {"conv": LayerBits(8, 8), "next": LayerBits(8, 3)})
    assert _q(graph, "relu") == _q(graph, "pool")
    assert _q(graph, "relu").bits == 3
    assert not any(isinstance(node, Requantize) for node in graph.nodes)


def test_an_auxiliary_convolution_has_8_bits() -> None:
    draft = FloatDraft()
    relu = draft.act("relu", draft.conv("norm", "input", 3, groups=3, auxiliary=True), RELU)
    draft.conv("conv", relu, 4)
    graph = _quantized(draft.graph("conv"), {"conv": LayerBits(2, 2)})
    norm = _layer(graph, "norm")
    assert (norm.weight.bits, _q(graph, norm.inputs[0]).bits) == (8, 8)


def test_softmax_reads_and_stays_float() -> None:
    draft = FloatDraft(shape=(1, 6))
    draft.softmax("softmax", draft.linear("fc", "input", 4))
    graph = _quantized(draft.graph("softmax", "fc"), {"fc": LayerBits(8, 8)})
    assert [node.output for node in graph.nodes] == ["input.codes", "fc", "softmax"]
    assert graph.values["fc"].q is graph.values["softmax"].q is None


def test_an_output_that_a_layer_also_reads_keeps_8_bits() -> None:
    draft = FloatDraft()
    first = draft.conv("first", "input", 4)
    draft.conv("second", first, 4)
    float_graph = draft.graph("first", "second")
    graph = _quantized(float_graph, uniform(float_graph, 8, 2))
    assert _q(graph, "first.codes").bits == 8
    assert _layer(graph, "second").inputs == ("first.a2",)


def test_an_input_that_layers_read_at_several_bits_is_quantized_once() -> None:
    draft = FloatDraft()
    draft.add("add", draft.conv("a", "input", 4), draft.conv("b", "input", 4))
    graph = _quantized(draft.graph("add"), {"a": LayerBits(8, 7), "b": LayerBits(8, 3)})
    assert [type(node) for node in graph.nodes[:2]] == [Quantize, Requantize]
    assert (_layer(graph, "a").inputs, _layer(graph, "b").inputs) == (
        ("input.codes",),
        ("input.a3",),
    )
    assert (_q(graph, "input.codes").bits, _q(graph, "input.a3").bits) == (7, 3)


@settings(max_examples=30)
@given(graph=random_graphs, seed=st.integers(0, 1000))
def test_random_networks_become_legal_and_every_program_agrees(
    graph: FloatGraph, seed: int
) -> None:
    bits = random_bits(graph, seed)
    options = QuantizeOptions() if seed % 2 else MIN_MAX
    quantized = quantize_network(graph, bits, statistics_of(graph), options)
    inputs = {"input": images(graph.values["input"].shape, 1, seed).numpy()}
    expected = reference.run(quantized, inputs)
    for name, codes in TorchCodes(quantized).trace(inputs).items():
        np.testing.assert_array_equal(expected[name], codes, err_msg=name)
    for name, real in TorchCodes(quantized).run(inputs).items():
        if not isinstance(quantized.producer(name), Softmax):
            np.testing.assert_array_equal(expected[name], real, err_msg=name)


@settings(max_examples=20)
@given(graph=random_graphs, seed=st.integers(0, 1000))
def test_every_layer_reads_and_holds_the_bits_of_the_policy(graph: FloatGraph, seed: int) -> None:
    bits = random_bits(graph, seed)
    quantized = _quantized(graph, bits)
    layers = {node.name: node for node in quantized.nodes if isinstance(node, Conv2d | Linear)}
    for name, width in bits.items():
        assert layers[name].weight.bits == width.w
        assert _q(quantized, layers[name].inputs[0]).bits == width.a
    assert quantized.inputs == graph.inputs
    assert quantized.outputs == graph.outputs


@settings(max_examples=20)
@given(graph=random_graphs)
def test_no_range_is_cut_by_sharing(graph: FloatGraph) -> None:
    statistics = statistics_of(graph)
    quantized = quantize_network(graph, uniform(graph, 8, 8), statistics, MIN_MAX)
    for name, value in quantized.values.items():
        if value.q is not None:
            found, q = statistics[name.removesuffix(".codes")], value.q
            lowest, highest = ((code - q.zero_point) * q.scale for code in (0, q.maximum))
            assert lowest - 0.51 * q.scale <= found.minimum
            assert found.maximum <= highest + 0.51 * q.scale


@settings(max_examples=20)
@given(graph=random_graphs)
def test_8_bits_stay_close_to_the_real_network(graph: FloatGraph) -> None:
    x = images(graph.values["input"].shape, 4)
    quantized = quantize_network(graph, uniform(graph, 8, 8), collect(graph, [x]), MIN_MAX)
    found, real = TorchCodes(quantized).run({"input": x.numpy()}), float_values(graph, x)
    for name in graph.outputs:
        assert _sqnr(real[name], found[name]) > 15, name


@pytest.mark.parametrize("w", [1, 4, 8])
def test_constant_zeros_get_a_scale(w: int) -> None:
    draft = FloatDraft()
    dead = draft.act("dead", draft.conv("conv", "input", 4), Clamp(0.0, 0.0))
    draft.conv("next", draft.add("add", dead, dead), 4)
    graph = draft.graph("next")
    quantized = quantize_network(graph, uniform(graph, w, 4), statistics_of(graph), MIN_MAX)
    x = images((1, 3, 9, 8), 1)
    found = TorchCodes(quantized).run({"input": x.numpy()})["next"]
    np.testing.assert_allclose(found, float_values(graph, x)["next"], atol=0.01)


def test_the_float_graph_is_left_alone() -> None:
    graph = random_float_graph(5, 4)
    before = [node for node in graph.nodes if isinstance(node, Activation | FloatConv2d)]
    weights = [node.weight.copy() for node in before if isinstance(node, FloatConv2d)]
    _quantized(graph, uniform(graph, 4, 4))
    after = [node.weight for node in before if isinstance(node, FloatConv2d)]
    for old, new in zip(weights, after, strict=True):
        np.testing.assert_array_equal(old, new)


def _quantized(graph: FloatGraph, bits: dict[str, LayerBits]) -> IntGraph:
    statistics = statistics_of(graph)
    return quantize_network(graph, bits, statistics, MIN_MAX)


def _q(graph: IntGraph, name: str) -> QParams:
    q = graph.values[name].q
    assert q is not None
    return q


def _layer(graph: IntGraph, name: str) -> Conv2d | Linear:
    (layer,) = (node for node in graph.nodes if node.name == name)
    assert isinstance(layer, Conv2d | Linear)
    return layer


def _sqnr(real: NDArray[Any], found: NDArray[Any]) -> float:
    noise = float(np.square(real - found).sum())
    return 10 * float(np.log10(np.square(real).sum() / max(noise, 1e-30)))
