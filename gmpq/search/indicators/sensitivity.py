"""How much a network's outputs change when one tensor of it is quantized, without training.

For each searched layer and number of bits: the float network with this layer's weight alone
quantized, and with its input alone quantized, by the scales that ``gmpq.passes`` would choose. No
labels are needed. That losses of layers add up is an assumption, which holds while each is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

import numpy as np
import torch
from torch.nn import functional

from gmpq.backends.torch_float import compute, rerun, run_float
from gmpq.calib.collect import check_batch
from gmpq.calib.observers import Range
from gmpq.calib.statistics import Statistics
from gmpq.errors import CalibrationError, LoweringError
from gmpq.ir import FloatConv2d, FloatGraph, FloatLinear, QParams, Softmax
from gmpq.numerics import Floats
from gmpq.passes.ptq import QuantizeOptions
from gmpq.passes.ranges import encode
from gmpq.passes.weights import channel_scales, weight_codes
from gmpq.search.ilp.solver import Reals
from gmpq.search.ilp.space import Space
from gmpq.search.indicators.options import Divergence

Weighted: TypeAlias = FloatConv2d | FloatLinear
Tensors: TypeAlias = Mapping[str, torch.Tensor]

SMALLEST = 1e-30  # of a probability, and of a power that others are relative to


@dataclass(frozen=True, slots=True)
class SensitivityOptions:
    """How tensors are quantized, and outputs compared."""

    quantization: QuantizeOptions = field(default_factory=QuantizeOptions)
    divergence: Divergence = Divergence.KL


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A searched layer, ready to be quantized at each number of bits."""

    node: Weighted
    scales: tuple[Floats, ...]  # by weight bits, [O]
    encodings: tuple[QParams, ...]  # by input bits


def measure(
    graph: FloatGraph,
    space: Space,
    statistics: Mapping[str, Statistics],
    batches: Iterable[torch.Tensor],
    options: SensitivityOptions,
    progress: Callable[[int], object],
) -> tuple[Reals, Reals]:
    """Return the mean divergences per image of weights [L, W] and of inputs [L, A].

    Args:
        graph: the network in real numbers.
        space: its searched layers, and the bits to try.
        statistics: of every value of ``graph``, from ``gmpq.calib.collect``.
        batches: images.
        options: how tensors are quantized, and outputs compared.
        progress: called after each batch with its number of images.

    Raises:
        CalibrationError: there is no image, or one does not fit.
        LoweringError: the outputs are no class scores, and are to be compared as such.
    """
    _check_outputs(graph, options.divergence)
    layers = _prepare(graph, space, statistics, options.quantization)
    sizes = ((len(layers), len(bits)) for bits in (space.weight_bits, space.input_bits))
    weight, read = map(np.zeros, sizes)
    count, (source,) = 0, graph.inputs
    for number, batch in enumerate(batches):
        check_batch(batch, graph.values[source].shape, number)
        with torch.inference_mode():
            values = dict(run_float(graph, {source: batch}))
            for index, layer in enumerate(layers):
                compared = _Compared(graph, values, layer, options.divergence)
                weight[index] += compared.weights(space.weight_bits)
                read[index] += [compared.read(q) for q in layer.encodings]
        count += len(batch)
        progress(len(batch))
    if not count:
        raise CalibrationError("the calibration set is empty: give at least one image")
    return weight / count, read / count


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """The float values of a batch, and what one quantized tensor of a layer makes of them."""

    graph: FloatGraph
    values: Tensors
    layer: _Layer
    divergence: Divergence

    def weights(self, weight_bits: tuple[int, ...]) -> list[float]:
        """Return ``weight`` at each number of bits."""
        return [
            self.weight(scale, bits)
            for scale, bits in zip(self.layer.scales, weight_bits, strict=True)
        ]

    def weight(self, scale: Floats, bits: int) -> float:
        """Return the sum over images of the divergences with the weight at ``scale`` [O]."""
        node = self.layer.node
        rows = node.weight.reshape(len(node.weight), -1)
        codes = weight_codes(rows, scale, bits)
        fake = (codes * scale[:, None]).reshape(node.weight.shape)
        return self._with(replace(node, weight=fake), self.values[node.inputs[0]])

    def read(self, q: QParams) -> float:
        """Return the sum over images of the divergences with the input quantized."""
        node = self.layer.node
        return self._with(node, fake_quantize(self.values[node.inputs[0]], q))

    def _with(self, node: Weighted, x: torch.Tensor) -> float:
        own = compute(node, [x], self.graph.values[node.output].shape)
        found = rerun(self.graph, self.values, {node.output: own})
        return sum(
            _diverge(self.graph, name, self.values[name], found[name], self.divergence)
            for name in self.graph.outputs
            if name in found
        )


def fake_quantize(x: torch.Tensor, q: QParams) -> torch.Tensor:
    """Return the real numbers that the codes of ``x``, of any shape, mean."""
    codes = (torch.round(x / q.scale) + q.zero_point).clamp(q.low, q.high)
    return (codes - q.zero_point) * q.scale


def _prepare(
    graph: FloatGraph,
    space: Space,
    statistics: Mapping[str, Statistics],
    options: QuantizeOptions,
) -> list[_Layer]:
    def range_of(value: str, bits: int) -> Range:
        return options.observer.range(statistics[value], bits)

    nodes = {node.name: node for node in graph.nodes}
    found = []
    for layer in space.searched:
        node = nodes[layer.name]
        assert isinstance(node, FloatConv2d | FloatLinear), f"{layer.name} has no weight"
        rows = node.weight.reshape(len(node.weight), -1)
        scales = [channel_scales(rows, b, options.weight_observer) for b in space.weight_bits]
        # a row of zeros has no scale, and any scale holds it
        positive = tuple(np.where(scale > 0, scale, np.float32(1)) for scale in scales)
        encodings = tuple(encode(node.inputs[0], bits, range_of) for bits in space.input_bits)
        found.append(_Layer(node, positive, encodings))
    return found


def _check_outputs(graph: FloatGraph, divergence: Divergence) -> None:
    for name in graph.outputs:
        shape = graph.values[name].shape
        if divergence is Divergence.KL and len(shape) != 2:
            raise LoweringError(
                f"output '{name}' has shape {list(shape)}, which holds no class scores: "
                "compare outputs by --loss mse"
            )


def _diverge(
    graph: FloatGraph, name: str, expected: torch.Tensor, found: torch.Tensor, kind: Divergence
) -> float:
    match kind:
        case Divergence.KL:
            p, q = (_log_probabilities(graph, name, x.double()) for x in (expected, found))
            return float((p.exp() * (p - q)).sum())
        case Divergence.SQUARED:
            error, power = (found - expected).square().mean(), expected.square().mean()
            return float(error / power.clamp_min(SMALLEST)) * len(expected)
        case _:
            assert_never(kind)


def _log_probabilities(graph: FloatGraph, name: str, x: torch.Tensor) -> torch.Tensor:
    probabilities = any(isinstance(n, Softmax) and n.output == name for n in graph.nodes)
    return x.clamp_min(SMALLEST).log() if probabilities else functional.log_softmax(x, dim=1)
