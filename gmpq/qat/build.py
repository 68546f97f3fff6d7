"""From a float network to a network in training that starts where calibration ends.

Scales, zero points and clips are those of post-training quantization. Batch norms are taken out of
the layers again: with the mean and the variance of their inputs over the calibration images they
are, in evaluation, the same function as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq.backends.torch_float import run_float
from gmpq.calib.collect import collect
from gmpq.calib.observers import Mse, Observer, Range
from gmpq.ir import FloatConv2d, FloatLinear, Window
from gmpq.lower.network import Trainable
from gmpq.passes.quantize import Layer, encode_network
from gmpq.passes.scale_groups import layer_bits
from gmpq.policy import LayerBits
from gmpq.qat.layers import LoneNorm, QuantizedLayer, apply_layer
from gmpq.qat.network import Part, QatNetwork
from gmpq.qat.norm import Norm
from gmpq.qat.scales import LsqScale, MakeScale


@dataclass(frozen=True, slots=True)
class InitialState:
    """How scales start and train, and what outputs are."""

    observer: Observer = field(default_factory=Mse)
    make_scale: MakeScale = LsqScale
    output_bits: int | None = None  # of the codes of outputs; None leaves those of layers float32


def build(
    network: Trainable,
    bits: Mapping[str, LayerBits],
    batches: Iterable[torch.Tensor],
    initial: InitialState | None = None,
) -> QatNetwork:
    """Return ``network`` ready for training at ``bits``.

    Args:
        network: from ``gmpq.lower.network.lower_trainable``.
        bits: of every layer's weight and input, by node name.
        batches: calibration images [N, C, H, W], read twice.
        initial: how scales start and train, and what outputs are.

    Raises:
        PolicyError: a layer has no bits.
        CalibrationError: the images cannot be used, or a range is too large.
        LoweringError: Softmax is not at the output.
    """
    initial = initial or InitialState()
    images = list(batches)
    statistics = collect(network.graph, images)

    def range_of(value: str, width: int) -> Range:
        return initial.observer.range(statistics[value], width)

    plan = encode_network(network.graph, bits, range_of, initial.output_bits)
    moments = _measure_norms(network, images)
    layers = [n for n in plan.graph.nodes if isinstance(n, FloatConv2d | FloatLinear)]
    parts = {node.name: _part(node, network, bits, moments.get(node.name)) for node in layers}
    return QatNetwork(plan, parts, initial.make_scale)


@dataclass(slots=True)
class _Moments:
    """Mean and variance per channel of what a batch norm reads."""

    count: int = 0
    total: torch.Tensor = field(default_factory=lambda: torch.zeros(()).double())
    squares: torch.Tensor = field(default_factory=lambda: torch.zeros(()).double())

    def add(self, x: torch.Tensor) -> None:
        rows = x.double().transpose(0, 1).flatten(1)  # [C, N * H * W]
        self.count += rows.shape[1]
        self.total = self.total + rows.sum(1)
        self.squares = self.squares + (rows * rows).sum(1)

    def norm(self) -> Norm:
        mean = self.total / self.count
        variance = (self.squares / self.count - mean * mean).clamp(min=0)
        return Norm(mean.float(), variance.float())


def _part(
    node: Layer,
    network: Trainable,
    bits: Mapping[str, LayerBits],
    moments: _Moments | None,
) -> Part:
    if _stands_alone(node):
        assert moments is not None, f"{node.name} was measured"
        return LoneNorm(_normed(moments, *_affine((node,))))
    original = network.layers[node.name]
    layer = QuantizedLayer(node, torch.from_numpy(original.weight), layer_bits(node, bits).w)
    bias = torch.from_numpy(original.bias)
    if moments is None:
        layer.bias = torch.nn.Parameter(bias.clone())
    else:
        factor, shift = _affine(network.norms[node.name])
        layer.norm = _normed(moments, factor, shift + factor * bias.double())
    return layer


def _normed(moments: _Moments, factor: torch.Tensor, shift: torch.Tensor) -> Norm:
    norm = moments.norm()
    norm.become(factor, shift)
    return norm


def _affine(norms: Iterable[Layer]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the float64 factor [C] and shift [C] of batch norms one after another."""
    factor, shift = torch.ones(()).double(), torch.zeros(()).double()
    for norm in norms:
        scale = torch.from_numpy(norm.weight.reshape(-1).astype(np.float64))
        factor, shift = factor * scale, shift * scale + torch.from_numpy(_double(norm.bias))
    return factor, shift


def _double(array: NDArray[np.float32]) -> NDArray[np.float64]:
    return array.astype(np.float64)


def _measure_norms(network: Trainable, batches: Iterable[torch.Tensor]) -> dict[str, _Moments]:
    """Return the moments of what each batch norm reads, by its layer or by its own name."""
    graph = network.graph
    layers = [n for n in graph.nodes if isinstance(n, FloatConv2d | FloatLinear)]
    normed = [n for n in layers if n.name in network.norms or _stands_alone(n)]
    found = {node.name: _Moments() for node in normed}
    (source,) = graph.inputs
    for batch in batches:
        for name, x in run_float(graph, {source: batch}):
            for node in normed:
                if node.inputs[0] == name:
                    found[node.name].add(_before_norm(node, network, x))
    return found


@torch.no_grad()
def _before_norm(node: Layer, network: Trainable, x: torch.Tensor) -> torch.Tensor:
    if _stands_alone(node):
        return x
    return apply_layer(node, x, torch.from_numpy(network.layers[node.name].weight))


def _stands_alone(node: Layer) -> bool:
    """Return whether a node is a batch norm that no layer could absorb."""
    return (
        isinstance(node, FloatConv2d)
        and node.auxiliary
        and node.weight.shape == (node.groups, 1, 1, 1)
        and node.window == Window((1, 1))
    )
