"""The whole of post-training quantization on small networks: more bits, closer outputs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.backends.torch_codes import TorchCodes, accumulate
from gmpq.calib.collect import collect
from gmpq.calib.observers import OBSERVERS, MinMax, Observer
from gmpq.ir import Conv2d, FloatGraph, IntGraph, Linear
from gmpq.lower.network import lower
from gmpq.models import find
from gmpq.models.random import random_images, randomize
from gmpq.passes.bias_correct import bias_correct
from gmpq.passes.equalize import equalize
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.passes.weights import WeightObserver
from tests.support.float_graphs import (
    RELU,
    FloatDraft,
    float_values,
    images,
    layer_names,
    statistics_of,
    uniform,
)

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def network() -> FloatGraph:
    module = find("cifar_resnet8").build()
    randomize(module, 0, SHAPE)
    return lower(module.eval(), (1, *SHAPE), "cifar_resnet8")


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    return random_images(24, SHAPE, torch.Generator().manual_seed(1))


def _quality(
    network: FloatGraph, x: torch.Tensor, w: int, a: int, options: QuantizeOptions
) -> float:
    """Return the SQNR in dB on images that calibration has not seen."""
    statistics = collect(network, x[:16].split(8))
    graph = quantize_network(network, uniform(network, w, a), statistics, options)
    return _sqnr(network, graph, x[16:])


def _sqnr(network: FloatGraph, graph: IntGraph, x: torch.Tensor) -> float:
    (source,), (output,) = graph.inputs, graph.outputs
    real = float_values(network, x)[output].astype(np.float64)
    error = TorchCodes(graph).run({source: x.numpy()})[output] - real
    return 10 * float(np.log10(np.square(real).sum() / np.square(error).sum()))


@pytest.mark.parametrize("observer", OBSERVERS, ids=lambda observer: observer.name)
def test_8_bits_are_close(
    network: FloatGraph, photographs: torch.Tensor, observer: Observer
) -> None:
    floor = 20 if observer.name in {"entropy", "moving-average"} else 30  # these cut long tails
    assert _quality(network, photographs, 8, 8, QuantizeOptions(observer)) > floor


def test_every_two_bits_bring_the_output_closer(
    network: FloatGraph, photographs: torch.Tensor
) -> None:
    found = [_quality(network, photographs, b, b, QuantizeOptions()) for b in (2, 4, 6, 8)]
    assert all(more > fewer + 5 for fewer, more in pairwise(found)), found


def test_least_squares_weights_beat_minmax_at_few_bits(
    network: FloatGraph, photographs: torch.Tensor
) -> None:
    plain = QuantizeOptions(weight_observer=WeightObserver.MIN_MAX)
    found = _quality(network, photographs, 3, 8, QuantizeOptions())
    assert found > _quality(network, photographs, 3, 8, plain) + 0.5


def test_bias_correction_helps_at_few_bits(network: FloatGraph, photographs: torch.Tensor) -> None:
    plain = QuantizeOptions(bias_correct=False)
    found = _quality(network, photographs, 3, 8, QuantizeOptions())
    assert found > _quality(network, photographs, 3, 8, plain) + 1


def test_an_equalized_network_quantizes_to_the_same_function(
    network: FloatGraph, photographs: torch.Tensor
) -> None:
    equalized = equalize(network)
    statistics = collect(equalized, photographs[:16].split(8))
    graph = quantize_network(
        equalized, uniform(equalized, 8, 8), statistics, QuantizeOptions(MinMax())
    )
    assert _sqnr(network, graph, photographs[16:]) > 30


def test_corrected_biases_restore_the_means_of_a_layer() -> None:
    draft = FloatDraft(shape=(1, 6, 9, 8))
    hidden = draft.act("relu", draft.conv("conv", "input", 6, kernel=1, groups=2), RELU)
    draft.linear("fc", draft.flatten("flatten", draft.mean("mean", hidden)), 5)
    network = draft.graph("fc")
    x = images((1, 6, 9, 8), 8)
    bits = uniform(network, 2, 8)
    options = QuantizeOptions(MinMax(), bias_correct=False)
    plain = quantize_network(network, bits, statistics_of(network), options)
    corrected = bias_correct(plain, network, statistics_of(network))
    real = float_values(network, x)
    for name, source in (("conv", "input"), ("fc", "flatten")):
        expected = _means(real[name])
        before, after = (
            np.abs(_layer_means(graph, name, real[source]) - expected).max()
            for graph in (plain, corrected)
        )
        assert after < 0.1 * before


def _layer_means(graph: IntGraph, name: str, x: NDArray[np.float32]) -> NDArray[Any]:
    """Return the mean outputs of a layer of ``graph`` for real inputs ``x``, before its clip."""
    (node,) = (node for node in graph.nodes if node.name == name)
    assert isinstance(node, Conv2d | Linear)
    q = graph.values[node.inputs[0]].q
    assert q is not None
    codes = numerics.quantize(x, q.scale, q.zero_point, q.low, q.high).astype(np.float32)
    acc = accumulate(graph, node, torch.from_numpy(codes)).numpy().astype(np.float64)
    means: NDArray[Any] = _means(acc) * numerics.accumulator_scale(q.scale, node.weight.scale)
    return means


def _means(x: NDArray[Any]) -> NDArray[Any]:
    means: NDArray[Any] = x.mean(axis=(0, *range(2, x.ndim)))
    return means


def test_bits_of_one_layer_change_that_layer_alone(network: FloatGraph) -> None:
    statistics = collect(network, [images((1, *SHAPE), 2)])
    plain = QuantizeOptions(bias_correct=False)
    bits = uniform(network, 8, 8)
    name = layer_names(network)[3]
    before = quantize_network(network, bits, statistics, plain)
    bits[name] = replace(bits[name], w=3)
    after = quantize_network(network, bits, statistics, plain)
    assert dict(before.values) == dict(after.values)
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if isinstance(old, Conv2d | Linear) and isinstance(new, Conv2d | Linear):
            assert np.array_equal(old.weight.codes, new.weight.codes) == (old.name != name)
