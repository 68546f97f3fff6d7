"""The passes on hand-made graphs: structure, and equal results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gmpq.ir import (
    NO_PADDING,
    Activation,
    Add,
    AvgPool,
    Clamp,
    Concat,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    Graph,
    MaxPool,
    Pad,
    Padding,
    Reshape,
    Shape,
    Value,
    Window,
)
from gmpq.passes.dead_code import drop_dead_code
from gmpq.passes.fold_batch_norm import fold_batch_norms
from gmpq.passes.fold_pad import fold_pad
from gmpq.passes.fold_reshape import fold_reshape
from tests.support.networks import image, outputs

IMAGE = (1, 4, 6, 6)
RELU = Clamp(0.0, np.inf)


def graph_of(*nodes: FloatNode, shapes: dict[str, Shape], outs: tuple[str, ...]) -> FloatGraph:
    """Return a graph whose values have the input's shape where ``shapes`` has no other."""
    names = ["input", *(node.output for node in nodes)]
    values = {name: Value(name, shapes.get(name, shapes["input"])) for name in names}
    return Graph("net", ("input",), outs, values, nodes)


def conv(name: str, source: str, channels: int = 4, padding: Padding = NO_PADDING) -> FloatConv2d:
    draw = np.random.default_rng(len(name))
    weight = draw.normal(size=(channels, 4, 1, 1)).astype(np.float32)
    bias = draw.normal(size=channels).astype(np.float32)
    return FloatConv2d(name, (source,), name, weight, bias, Window((1, 1), padding=padding))


def norm(name: str, source: str, channels: int = 4) -> FloatConv2d:
    draw = np.random.default_rng(len(name) + 7)
    weight = draw.normal(size=(channels, 1, 1, 1)).astype(np.float32)
    bias = draw.normal(size=channels).astype(np.float32)
    return FloatConv2d(
        name, (source,), name, weight, bias, Window((1, 1)), groups=channels, auxiliary=True
    )


def linear(name: str, source: str, outs: int, ins: int) -> FloatLinear:
    weight = np.random.default_rng(1).normal(size=(outs, ins)).astype(np.float32)
    return FloatLinear(name, (source,), name, weight, np.ones(outs, np.float32))


def relu(name: str, source: str) -> Activation:
    return Activation(name, (source,), name, RELU)


def fold_batch_norm(graph: FloatGraph) -> FloatGraph:
    return fold_batch_norms(graph).graph


def check(
    rewrite: Callable[[FloatGraph], FloatGraph], graph: FloatGraph, kept: list[str]
) -> FloatGraph:
    after = rewrite(graph)
    assert [node.name for node in after.nodes] == kept
    assert set(after.values) == {"input", *(node.output for node in after.nodes)}
    x = image(graph.values["input"].shape)
    for want, got in zip(outputs(graph, x), outputs(after, x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    return after


def test_batch_norm_into_a_convolution() -> None:
    nodes = (conv("c", "input"), norm("bn", "c"), relu("r", "bn"))
    check(fold_batch_norm, graph_of(*nodes, shapes={"input": IMAGE}, outs=("r",)), ["c", "r"])


def test_batch_norm_at_the_output() -> None:
    graph = graph_of(conv("c", "input"), norm("bn", "c"), shapes={"input": IMAGE}, outs=("bn",))
    assert check(fold_batch_norm, graph, ["c"]).outputs == ("c",)


def test_two_batch_norms_in_a_row() -> None:
    nodes = (conv("c", "input"), norm("bn", "c"), norm("bn2", "bn"))
    check(fold_batch_norm, graph_of(*nodes, shapes={"input": IMAGE}, outs=("bn2",)), ["c"])


def test_a_batch_norm_absorbs_the_next() -> None:
    nodes = (relu("r", "input"), norm("bn", "r"), norm("bn2", "bn"))
    check(fold_batch_norm, graph_of(*nodes, shapes={"input": IMAGE}, outs=("bn2",)), ["r", "bn"])


def test_a_convolution_that_something_else_reads_keeps_its_batch_norm() -> None:
    nodes = (conv("c", "input"), norm("bn", "c"), Add("a", ("c", "bn"), "a"))
    check(fold_batch_norm, graph_of(*nodes, shapes={"input": IMAGE}, outs=("a",)), ["c", "bn", "a"])


def test_a_convolution_that_is_an_output_keeps_its_batch_norm() -> None:
    nodes = (conv("c", "input"), norm("bn", "c"))
    check(fold_batch_norm, graph_of(*nodes, shapes={"input": IMAGE}, outs=("c", "bn")), ["c", "bn"])


def test_batch_norm_of_vectors_into_a_linear_layer() -> None:
    nodes = (
        linear("fc", "input", 3, 5),
        Reshape("up", ("fc",), "up"),
        norm("bn", "up", 3),
        Reshape("down", ("bn",), "down"),
    )
    shapes = {"input": (1, 5), "fc": (1, 3), "up": (1, 3, 1, 1), "bn": (1, 3, 1, 1), "down": (1, 3)}
    graph = graph_of(*nodes, shapes=shapes, outs=("down",))
    check(lambda g: fold_reshape(fold_batch_norm(g)), graph, ["fc"])


def test_a_reshape_that_mixes_channels_stops_the_fold() -> None:
    nodes = (conv("c", "input"), Reshape("mix", ("c",), "mix"), norm("bn", "mix", 6))
    shapes = {"input": IMAGE, "mix": (1, 6, 4, 6), "bn": (1, 6, 4, 6)}
    check(fold_batch_norm, graph_of(*nodes, shapes=shapes, outs=("bn",)), ["c", "mix", "bn"])


def test_pad_into_every_window_that_reads_it() -> None:
    nodes = (
        Pad("p", ("input",), "p", Padding(1, 0, 2, 3)),
        conv("c", "p"),
        conv("d", "p", padding=Padding(1, 1, 1, 1)),
    )
    shapes = {"input": IMAGE, "p": (1, 4, 9, 9), "c": (1, 4, 9, 9), "d": (1, 4, 11, 11)}
    after = check(fold_pad, graph_of(*nodes, shapes=shapes, outs=("c", "d")), ["c", "d"])
    paddings = [node.window.padding for node in after.nodes if isinstance(node, FloatConv2d)]
    assert paddings == [Padding(1, 0, 2, 3), Padding(2, 1, 3, 4)]


def test_pads_in_a_row() -> None:
    nodes = (
        Pad("p", ("input",), "p", Padding(1, 0, 0, 0)),
        Pad("q", ("p",), "q", Padding(1, 0, 2, 0)),
        conv("c", "q"),
    )
    shapes = {"input": IMAGE, "p": (1, 4, 7, 6), "q": (1, 4, 10, 6), "c": (1, 4, 10, 6)}
    check(fold_pad, graph_of(*nodes, shapes=shapes, outs=("c",)), ["c"])


def test_pad_into_an_average_counts_its_zeros() -> None:
    window = Window((2, 2), (2, 2), Padding(1, 1, 1, 1))
    nodes = (
        Pad("p", ("input",), "p", Padding(0, 0, 2, 2)),
        AvgPool("a", ("p",), "a", window, Padding()),
    )
    shapes = {"input": IMAGE, "p": (1, 4, 8, 8), "a": (1, 4, 5, 5)}
    check(fold_pad, graph_of(*nodes, shapes=shapes, outs=("a",)), ["a"])


def test_pad_before_a_max_pool_stays() -> None:
    nodes = (
        Pad("p", ("input",), "p", Padding(1, 1, 1, 1)),
        MaxPool("m", ("p",), "m", Window((2, 2), (2, 2))),
        conv("c", "p"),
    )
    shapes = {"input": IMAGE, "p": (1, 4, 8, 8), "m": (1, 4, 4, 4), "c": (1, 4, 8, 8)}
    check(fold_pad, graph_of(*nodes, shapes=shapes, outs=("m", "c")), ["p", "m", "c"])


@pytest.mark.parametrize(
    ("shape", "kept"),
    [pytest.param((1, 144), [], id="undone"), pytest.param((1, 36, 2, 2), ["b"], id="merged")],
)
def test_reshapes_in_a_row(shape: Shape, kept: list[str]) -> None:
    nodes = (
        Reshape("a", ("input",), "a"),
        Reshape("b", ("a",), "b"),
        relu("r", "b"),
    )
    shapes = {"input": (1, 144), "a": (1, 12, 12), "b": shape, "r": shape}
    check(fold_reshape, graph_of(*nodes, shapes=shapes, outs=("r",)), [*kept, "r"])


def test_dead_code() -> None:
    nodes = (
        relu("r", "input"),
        conv("unread", "r"),
        relu("too", "unread"),
        Concat("c", ("r", "input"), "c"),
    )
    shapes = {"input": IMAGE, "c": (1, 8, 6, 6)}
    check(drop_dead_code, graph_of(*nodes, shapes=shapes, outs=("c",)), ["r", "c"])
