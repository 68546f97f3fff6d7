"""Sensitivity equals what running the whole network with one quantized tensor finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gmpq.calib.collect import collect
from gmpq.errors import CalibrationError, LoweringError
from gmpq.ir import FloatGraph
from gmpq.lower import lower, run_float
from gmpq.passes.ptq import QuantizeOptions
from gmpq.passes.ranges import encode
from gmpq.passes.weights import WeightObserver, channel_scales, weight_codes
from gmpq.search.ilp.solver import Reals
from gmpq.search.ilp.space import space_of
from gmpq.search.indicators.sensitivity import (
    Divergence,
    SensitivityOptions,
    fake_quantize,
    measure,
)
from tests.search.nets import SHAPE, inverted, labelled

BITS = (2, 4, 8)


@pytest.fixture(scope="module")
def graph() -> FloatGraph:
    return lower(inverted(), SHAPE, "net")


def batches(count: int = 6, size: int = 4) -> list[torch.Tensor]:
    return [torch.from_numpy(batch) for batch in labelled(count).inputs().batches(size)]


def measured(graph: FloatGraph, kind: Divergence = Divergence.KL) -> tuple[Reals, Reals]:
    space = space_of(graph, BITS, BITS)
    statistics = collect(graph, batches())
    options = SensitivityOptions(divergence=kind)
    return measure(graph, space, statistics, batches(), options, lambda _: None)


def logits(graph: FloatGraph, x: torch.Tensor) -> torch.Tensor:
    (output,) = graph.outputs
    return dict(run_float(graph, {graph.inputs[0]: x}))[output]


def kl(expected: torch.Tensor, found: torch.Tensor) -> float:
    p, q = (x.double().softmax(1) for x in (expected, found))
    return float((p * (p / q).log()).sum(1).mean())


def test_a_quantized_weight(graph: FloatGraph) -> None:
    weight, _ = measured(graph)
    for index, name in enumerate(("expand", "depth", "project")):
        for column, bits in enumerate(BITS):
            x = torch.cat(batches())
            changed = _with_weight(graph, name, lambda w, b=bits: _fake(w, b))
            expected = kl(logits(graph, x), logits(changed, x))
            assert weight[index, column] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_a_quantized_input(graph: FloatGraph) -> None:
    """The depthwise convolution alone reads ``relu``: quantizing that value is the same."""
    _, read = measured(graph)
    node = next(node for node in graph.nodes if node.name == "depth")
    observer, statistics = QuantizeOptions().observer, collect(graph, batches())
    q = encode(node.inputs[0], 4, lambda name, bits: observer.range(statistics[name], bits))
    x = torch.cat(batches())
    values = dict(run_float(graph, {graph.inputs[0]: x}))
    later = graph.nodes[graph.nodes.index(node) :]
    tail = replace(graph, nodes=later)
    held = values | {node.inputs[0]: fake_quantize(values[node.inputs[0]], q)}
    outside = {name: held[name] for n in later for name in n.inputs if not _made(later, name)}
    found = dict(run_float(tail, outside))[graph.outputs[0]]
    assert read[1, 1] == pytest.approx(kl(values[graph.outputs[0]], found), rel=1e-3)


@pytest.mark.parametrize("kind", Divergence)
def test_fewer_bits_lose_more(graph: FloatGraph, kind: Divergence) -> None:
    for losses in measured(graph, kind):
        assert losses.shape == (3, len(BITS))
        assert (np.diff(losses, axis=1) < 0).all()
        assert (losses >= 0).all()


def test_every_run_finds_the_same(graph: FloatGraph) -> None:
    for first, second in zip(measured(graph), measured(graph), strict=True):
        np.testing.assert_array_equal(first, second)


def test_images_are_needed(graph: FloatGraph) -> None:
    statistics, options = collect(graph, batches()), SensitivityOptions()
    with pytest.raises(CalibrationError, match="is empty"):
        measure(graph, space_of(graph), statistics, [], options, lambda _: None)


def test_images_have_no_class_scores(graph: FloatGraph) -> None:
    project = next(node for node in graph.nodes if node.name == "project")
    headless = replace(graph, outputs=(project.output,))
    with pytest.raises(LoweringError, match="--loss mse"):
        measured(headless)


def _fake(weight: np.ndarray, bits: int) -> np.ndarray:
    rows = weight.reshape(len(weight), -1)
    scale = channel_scales(rows, bits, WeightObserver.MSE)
    codes = weight_codes(rows, scale, bits)
    return (codes * scale[:, None]).reshape(weight.shape)


def _with_weight(
    graph: FloatGraph, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> FloatGraph:
    nodes = tuple(
        replace(node, weight=change(node.weight)) if node.name == name else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def _made(nodes: tuple, name: str) -> bool:
    return any(node.output == name for node in nodes)
