"""Which values are float32 alone, and what that keeps: scales side by side, and exact sums."""

from __future__ import annotations

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.calib.observers import Range
from gmpq.ir import (
    Clamp,
    Concat,
    Conv2d,
    Dequantize,
    FloatGraph,
    IntGraph,
    Quantize,
    Reshape,
    Sigmoid,
)
from gmpq.passes.fuse import fuse_clamps
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.passes.quantize import quantize
from gmpq.passes.reals import real_values
from gmpq.passes.weights import WeightObserver
from tests.support.float_graphs import (
    RELU,
    FloatDraft,
    float_values,
    images,
    statistics_of,
    uniform,
)


def detector() -> FloatGraph:
    """Return boxes in pixels and scores of one branch each, side by side in one output."""
    draft = FloatDraft()
    boxes = draft.conv("boxes", "input", 4)
    scores = draft.act("scores", draft.conv("logits", "input", 5), Sigmoid())
    return draft.graph(draft.flatten("flat", draft.concat("all", boxes, scores)))


def reals(graph: FloatGraph, output_bits: int | None = None) -> set[str]:
    return set(real_values(fuse_clamps(graph), output_bits))


def test_a_last_layer_writes_float32() -> None:
    draft = FloatDraft()
    middle = draft.conv("middle", "input", 4)
    graph = draft.graph(draft.conv("last", middle, 5))
    assert reals(graph) == {"last"}
    assert reals(graph, 8) == set()


@pytest.mark.parametrize("function", [RELU, Clamp(0.0, 6.0), Sigmoid()], ids=str)
def test_a_function_after_the_last_layer_keeps_codes(function: Clamp | Sigmoid) -> None:
    draft = FloatDraft()
    graph = draft.graph(draft.act("act", draft.conv("last", "input", 5), function))
    assert reals(graph) == set()


@pytest.mark.parametrize("reader", ["pool", "add", "layer"])
def test_a_value_that_is_also_read_as_codes_is_none(reader: str) -> None:
    draft = FloatDraft()
    x = draft.conv("x", "input", 4)
    match reader:
        case "pool":
            y = draft.max_pool("y", x)
        case "add":
            y = draft.add("y", x, x)
        case _:
            y = draft.conv("y", x, 2)
    assert reals(draft.graph(x, y)) == ({"y"} if reader == "layer" else set())


def test_what_joins_outputs_is_float32_too() -> None:
    assert reals(detector()) == {"boxes", "all", "flat"}
    assert reals(detector(), 8) == set()


def test_a_softmax_may_be_joined_at_the_output() -> None:
    draft = FloatDraft(shape=(1, 6))
    classes = draft.softmax("classes", draft.linear("logits", "input", 4))
    graph = draft.graph(draft.concat("all", draft.linear("box", "input", 4), classes))
    assert reals(graph) == {"logits", "classes", "box", "all"}
    names = [node.output for node in _quantized(graph).nodes]
    assert names == ["input.codes", "logits", "classes", "box", "all"]


def test_joined_values_are_dequantized_where_they_were_codes() -> None:
    graph = _quantized(detector())
    kinds = {node.output: type(node) for node in graph.nodes}
    assert kinds == {
        "input.codes": Quantize,
        "boxes": Conv2d,
        "logits": Conv2d,
        "scores.codes": type(graph.producer("scores.codes")),
        "scores": Dequantize,
        "all": Concat,
        "flat": Reshape,
    }
    assert [name for name, value in graph.values.items() if value.q is None] == [
        *("input", "boxes", "scores", "all", "flat")
    ]


def test_a_network_input_is_joined_as_it_is() -> None:
    draft = FloatDraft()
    graph = _quantized(draft.graph(draft.concat("all", "input", draft.conv("conv", "input", 2))))
    (joined,) = (node for node in graph.nodes if isinstance(node, Concat))
    assert joined.inputs == ("input", "conv")
    x = images((1, 3, 9, 8), 1).numpy()
    np.testing.assert_array_equal(reference.run(graph, {"input": x})["all"][:, :3], x)


def test_scores_keep_their_scale_beside_boxes() -> None:
    ranges = dict.fromkeys(detector().values, (-4.0, 4.0)) | {"boxes": (0.0, 640.0)}

    def range_of(value: str, _: int) -> Range:
        return ranges[value] if value != "scores" else (0.0, 1.0)

    graph = detector()
    for output_bits, steps in ((None, 256), (8, 2)):
        made = quantize(graph, uniform(graph, 8, 8), range_of, WeightObserver.MSE, output_bits)
        x = images((1, 3, 9, 8), 1, 3).numpy()
        scores = reference.run(made, {"input": x})["flat"][0, 4 * 72 :]
        assert (len(np.unique(scores)) > 2) == (steps > 2)


def test_a_last_layer_needs_no_range() -> None:
    draft = FloatDraft()
    graph = draft.graph(draft.conv("last", "input", 5))
    asked: list[str] = []

    def range_of(value: str, _: int) -> Range:
        asked.append(value)
        return -1.0, 1.0

    quantize(graph, uniform(graph, 8, 8), range_of, WeightObserver.MSE)
    assert asked == ["input"]


@pytest.mark.parametrize(("bits", "expected"), [(8, 8), (3, 3), (1, 1)])
def test_output_bits_are_those_of_the_codes(bits: int, expected: int) -> None:
    draft = FloatDraft(shape=(1, 6))
    graph = draft.graph(draft.linear("fc", "input", 4))
    q = _quantized(graph, bits).values["fc.codes"].q
    assert q is not None
    assert q.bits == expected


def test_output_bits_are_a_least_number() -> None:
    draft = FloatDraft()
    first = draft.conv("first", "input", 4)
    graph = draft.graph(first, draft.conv("second", first, 4))
    q = _quantized(graph, 2, a=5).values["first.codes"].q
    assert q is not None
    assert q.bits == 5


def test_float32_outputs_are_nearer_than_codes() -> None:
    draft = FloatDraft(shape=(1, 64))
    graph = draft.graph(draft.linear("fc", "input", 500))
    x = images((1, 64), 1, 5)
    wanted = float_values(graph, x)["fc"]
    found = [
        reference.run(_quantized(graph, bits), {"input": x.numpy()})["fc"] for bits in (None, 8)
    ]
    assert len(np.unique(found[0])) > 256 >= len(np.unique(found[1]))
    exact, rounded = (float(np.square(each - wanted).mean()) for each in found)
    assert exact < rounded


def _quantized(graph: FloatGraph, output_bits: int | None = None, a: int = 8) -> IntGraph:
    options = QuantizeOptions(output_bits=output_bits)
    return quantize_network(graph, uniform(graph, 8, a), statistics_of(graph), options)
