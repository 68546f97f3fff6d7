"""Who is blamed for lost accuracy: figures against the reference, and known culprits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmpq.accuracy.loss import Loss
from gmpq.accuracy.measure import Extent, energy_of, measure
from gmpq.accuracy.metrics import Energy, cosines, largest
from gmpq.backends import reference
from gmpq.errors import CalibrationError
from gmpq.inputs.images import Images, Preprocessing
from gmpq.ir import FloatGraph, IntGraph
from gmpq.numerics import dequantize
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from tests.support.float_graphs import (
    RELU,
    FloatDraft,
    float_values,
    images,
    layer_names,
    random_bits,
    random_float_graph,
    statistics_of,
    uniform,
)

COUNT = 5
EXTENT = Extent(COUNT, 2, 2)


def photographs(graph: FloatGraph, count: int = COUNT) -> Images:
    shape = graph.values["input"].shape
    pixels = images(shape, count, 3).numpy()
    return Images(tuple(pixels), np.full(count, -1), Preprocessing.of(shape, None))


def quantized(graph: FloatGraph, bits: dict[str, LayerBits]) -> IntGraph:
    return quantize_network(graph, bits, statistics_of(graph), QuantizeOptions())


def lost(graph: FloatGraph, integer: IntGraph, extent: Extent = EXTENT) -> Loss:
    return measure(graph, integer, photographs(graph), extent, lambda _: None)


def classifier() -> FloatGraph:
    """Return a chain of layers with a residual sum, pooled into ten classes."""
    draft = FloatDraft()
    stem = draft.act("stem_relu", draft.conv("stem", "input", 8), RELU)
    first = draft.act("first_relu", draft.conv("first", stem, 8), RELU)
    draft.add("sum", draft.conv("second", first, 8), stem)
    third = draft.act("third_relu", draft.conv("third", "sum", 8), RELU)
    return draft.graph(draft.linear("head", draft.flatten("flat", draft.mean("pool", third)), 10))


def values_of(graph: IntGraph, data: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    """Return the real numbers that the reference's values stand for, image by image."""
    runs = [reference.run(graph, {"input": image[None]}) for image in data.numpy()]
    found = {}
    for name in runs[0]:
        held = np.concatenate([run[name] for run in runs])
        q = graph.values[name].q
        found[name] = held if q is None else dequantize(held, q.scale, q.zero_point)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_the_reference(seed: int) -> None:
    graph = random_float_graph(seed, 4)
    integer = quantized(graph, random_bits(graph, seed))
    found, data = lost(graph, integer), images(graph.values["input"].shape, COUNT, 3)
    exact, held = float_values(graph, data), values_of(integer, data)
    for output, name in zip(found.outputs, integer.outputs, strict=True):
        expected, codes = exact[output.output], held[name]
        assert output.sqnr_db == pytest.approx(Energy.of(expected, codes).sqnr_db, abs=0.02)
        assert output.cosine == pytest.approx(cosines(expected, codes).mean(), abs=1e-4)
        if output.agreement is not None:
            assert output.agreement == (largest(expected) == largest(codes)).mean()
    for node in found.nodes:
        name = next(n for n in (f"{node.value}.codes", node.value) if n in held)
        energy = Energy.of(exact[node.value], held[name])
        assert node.sqnr_db == pytest.approx(energy.sqnr_db, abs=0.02)


@pytest.mark.parametrize("culprit", layer_names(classifier()))
def test_the_layer_of_few_bits_is_blamed(culprit: str) -> None:
    graph = classifier()
    bits = uniform(graph, 8, 8) | {culprit: LayerBits(2, 8)}
    found = lost(graph, quantized(graph, bits))
    assert found.worst(1)[0].node == culprit


def test_eight_bits_lose_little() -> None:
    graph = classifier()
    found = lost(graph, quantized(graph, uniform(graph, 8, 8)))
    (output,) = found.outputs
    assert output.sqnr_db > 30
    assert output.cosine > 0.999
    assert found.clipped < 0.01
    first = found.nodes[0]
    assert (first.node, first.value) == ("input", "input")
    assert {node.node for node in found.nodes} >= {"sum", "pool", *layer_names(graph)}


def test_chunks_change_nothing() -> None:
    graph = classifier()
    integer = quantized(graph, uniform(graph, 4, 4))
    whole, parts = (lost(graph, integer, Extent(COUNT, 1, chunk)) for chunk in (5, 1))
    assert whole.outputs == parts.outputs
    for one, other in zip(whole.nodes, parts.nodes, strict=True):
        assert one.sqnr_db == pytest.approx(other.sqnr_db, abs=0.02)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_squares_may_leave_float32(scale: float) -> None:
    exact = torch.tensor([3.0, -4.0]) * scale
    assert energy_of(exact, exact * 0.9).sqnr_db == pytest.approx(20, abs=1e-3)


def test_images_beyond_the_range_are_counted() -> None:
    graph = classifier()
    integer = quantized(graph, uniform(graph, 8, 8))
    data = photographs(graph)
    bright = replace(data, items=tuple(item * 4 for item in data.items))  # type: ignore[operator]
    assert measure(graph, integer, bright, Extent(COUNT, 1, 2), lambda _: None).clipped > 0.1


@pytest.mark.parametrize(
    ("macs", "images_", "extent"),
    [
        pytest.param(4_000_000_000, 100, Extent(32, 4, 4), id="resnet50"),
        pytest.param(1_000, 3, Extent(3, 3, 4), id="few-images"),
        pytest.param(20_000_000_000, 100, Extent(6, 4, 4), id="large"),
        pytest.param(500_000_000_000, 100, Extent(2, 0, 4), id="huge"),
    ],
)
def test_the_work_is_bounded(macs: int, images_: int, extent: Extent) -> None:
    graph = classifier()
    integer = quantized(graph, uniform(graph, 8, 8))
    assert Extent.of(graph, integer, macs, images_) == extent


def test_images_of_another_shape_are_refused() -> None:
    graph = classifier()
    integer, data = quantized(graph, uniform(graph, 8, 8)), photographs(graph)
    other = replace(data, items=tuple(np.zeros((3, 5, 5), np.float32) for _ in data.items))
    with pytest.raises(CalibrationError, match=r"has shape \[2, 3, 5, 5\]"):
        measure(graph, integer, other, Extent(2, 1, 2), lambda _: None)
