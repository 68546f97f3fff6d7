"""Costs counted by hand on small graphs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gmpq.ir import (
    Activation,
    Add,
    Clamp,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    GlobalAvgPool,
    Graph,
    Padding,
    Reshape,
    Silu,
    Value,
    Window,
)
from gmpq.passes.cost import activation_bits, layer_names, measure, to_table
from gmpq.passes.fuse import fuse_clamps
from gmpq.policy import LayerBits

RELU = Clamp(0.0, math.inf)


def conv(
    name: str, source: str, shape: tuple[int, int, int, int], *, groups: int = 1, stride: int = 1
) -> FloatConv2d:
    rows = shape[2]
    return FloatConv2d(
        name,
        (source,),
        name,
        np.zeros(shape, np.float32),
        np.zeros(shape[0], np.float32),
        Window((rows, rows), (stride, stride), Padding(*[rows // 2] * 4)),
        groups,
    )


def linear(name: str, source: str, rows: int, columns: int) -> FloatLinear:
    weight = np.zeros((rows, columns), np.float32)
    return FloatLinear(name, (source,), name, weight, np.zeros(rows, np.float32))


def graph(nodes: tuple[FloatNode, ...], shapes: dict[str, tuple[int, ...]]) -> FloatGraph:
    values = {name: Value(name, shape) for name, shape in shapes.items()}
    return Graph("net", ("x",), (nodes[-1].output,), values, nodes)


def residual() -> FloatGraph:
    """A stem, a residual block with a depthwise convolution, and a classifier."""
    nodes: tuple[FloatNode, ...] = (
        conv("stem", "x", (8, 3, 3, 3), stride=2),
        Activation("relu", ("stem",), "relu", RELU),
        conv("body", "relu", (8, 1, 3, 3), groups=8),
        Add("add", ("relu", "body"), "add"),
        GlobalAvgPool("pool", ("add",), "pool"),
        Reshape("flat", ("pool",), "flat"),
        linear("fc", "flat", 10, 8),
    )
    image = (1, 8, 4, 4)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (1, 3, 8, 8),
        "stem": image,
        "relu": image,
        "body": image,
        "add": image,
        "pool": (1, 8, 1, 1),
        "flat": (1, 8),
        "fc": (1, 10),
    }
    return graph(nodes, shapes)


BITS = {"stem": LayerBits(8, 8), "body": LayerBits(3, 4), "fc": LayerBits(2, 6)}


def test_macs_and_bops_count_groups_and_strides() -> None:
    cost = measure(residual(), BITS)
    assert [layer.macs for layer in cost.layers] == [8 * 16 * 27, 8 * 16 * 9, 80]
    assert [layer.bops for layer in cost.layers] == [3456 * 64, 1152 * 12, 80 * 12]
    assert [layer.kind for layer in cost.layers] == ["conv 3x3/2", "conv 3x3 g8", "linear"]
    assert cost.macs == 4688
    assert cost.bops == 3456 * 64 + 1152 * 12 + 80 * 12
    assert cost.float_bops == 4688 * 1024


def test_published_bops_charge_every_layer_at_the_mean_of_the_searched() -> None:
    assert measure(residual(), BITS).published_bops == pytest.approx(4688 * 12)
    uniform = dict.fromkeys(BITS, LayerBits(3, 3))
    cost = measure(residual(), uniform)
    assert cost.published_bops == pytest.approx(cost.bops)


def test_weights_are_counted_in_the_containers_of_the_file() -> None:
    cost = measure(residual(), BITS)
    assert [layer.packed_bytes for layer in cost.layers] == [216, 36, 20]
    assert cost.int8_bytes == 216 + 72 + 80


def test_the_peak_is_the_largest_live_set() -> None:
    cost = measure(residual(), BITS)
    # at the depthwise convolution: the stream and its output; at the add: both and the sum
    assert cost.peak_bytes == 3 * 128
    assert cost.peak_packed_bytes == 3 * 128


def test_narrow_activations_shrink_the_packed_peak() -> None:
    nodes = (
        conv("a", "x", (4, 2, 1, 1)),
        conv("b", "a", (4, 4, 1, 1)),
        conv("c", "b", (1, 4, 1, 1)),
    )
    shapes = {"x": (1, 2, 3, 3), "a": (1, 4, 3, 3), "b": (1, 4, 3, 3), "c": (1, 1, 3, 3)}
    bits = {"a": LayerBits(8, 8), "b": LayerBits(8, 3), "c": LayerBits(8, 2)}
    cost = measure(graph(nodes, shapes), bits)
    assert cost.peak_bytes == 72
    assert cost.peak_packed_bytes == 18 + math.ceil(36 * 3 / 8)


def test_values_that_share_codes_have_the_bits_of_their_widest_reader() -> None:
    expected = {"x": 8, "relu": 8, "body": 8, "add": 8, "pool": 6, "flat": 6}
    assert activation_bits(fuse_clamps(residual()), BITS) == expected
    assert activation_bits(fuse_clamps(residual()), BITS, 3) == expected | {"fc": 3}


def test_a_lookup_separates_two_widths() -> None:
    nodes = (
        conv("a", "x", (2, 2, 1, 1)),
        Activation("silu", ("a",), "silu", Silu()),
        conv("b", "silu", (2, 2, 1, 1)),
    )
    shapes = dict.fromkeys(("x", "a", "silu", "b"), (1, 2, 2, 2))
    bits = {"a": LayerBits(8, 5), "b": LayerBits(8, 2)}
    found = activation_bits(fuse_clamps(graph(nodes, shapes)), bits)
    assert found == {"x": 5, "a": 8, "silu": 2}


def test_layer_names_leave_auxiliary_convolutions_out() -> None:
    assert layer_names(residual()) == ("stem", "body", "fc")


def test_the_table_names_every_layer_and_total() -> None:
    text = to_table(measure(residual(), BITS))
    for word in ("stem", "conv 3x3 g8", "fc", "published", "peak activations", "packed"):
        assert word in text
