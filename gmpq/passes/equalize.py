"""Cross-layer equalization: channels of one layer get like ranges of weights and activations.

    conv(W1, b1) -> relu -> conv(W2)   becomes   conv(W1 / s, b1 / s) -> relu -> conv(W2 * s)

with a positive factor s per channel between the two layers. The network computes the same, since
everything between them is positively homogeneous: ReLU, leaky ReLU and PReLU (not ReLU6, whose
upper bound would move), padding, max and average pooling, enlargement. Nagel et al., "Data-free
quantization through weight equalization and bias correction", ICCV 2019, section 4.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.ir import (
    Activation,
    AvgPool,
    Clamp,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    GlobalAvgPool,
    LeakyRelu,
    MaxPool,
    Pad,
    PRelu,
    Reshape,
    Upsample,
)

Layer: TypeAlias = FloatConv2d | FloatLinear
Factors: TypeAlias = NDArray[np.float32]

ROUNDS = 20  # a chain of layers settles in a few
SETTLED = 1e-3  # relative change of the factors
MOST = 1e4  # no factor beyond: a nearly dead channel must not make its neighbour explode


def equalize(graph: FloatGraph) -> FloatGraph:
    """Return a graph of the same function whose neighbouring layers share their ranges.

    The factor of a channel is ``sqrt(r1 / r2)``, of the largest magnitudes r1 of the weights that
    write it and r2 of those that read it; passes over all pairs repeat until the factors settle.

    Run it before calibration, since it changes the ranges of activations.
    """
    pairs = _pairs(graph)
    layers = {node.name: node for node in graph.nodes if isinstance(node, Layer)}
    for _ in range(ROUNDS):
        change = 0.0
        for first, second in pairs:
            factors = _factors(layers[first], layers[second])
            layers[first] = _shrink_outputs(layers[first], factors)
            layers[second] = _grow_inputs(layers[second], factors)
            change = max(change, float(np.abs(np.log(factors)).max()))
        if change < SETTLED:
            break
    return replace(graph, nodes=tuple(layers.get(node.name, node) for node in graph.nodes))


def _pairs(graph: FloatGraph) -> list[tuple[str, str]]:
    """Return the names of layers with nothing but homogeneous nodes and one reader in between."""
    pairs: list[tuple[str, str]] = []
    for node in graph.nodes:
        if isinstance(node, Layer):
            reader = _only_reader(graph, node.output)
            while reader is not None and _homogeneous(graph, reader):
                reader = _only_reader(graph, reader.output)
            if isinstance(reader, Layer):
                pairs.append((node.name, reader.name))
    return pairs


def _only_reader(graph: FloatGraph, value: str) -> FloatNode | None:
    readers = graph.consumers(value)
    return readers[0] if len(readers) == 1 and value not in graph.outputs else None


def _homogeneous(graph: FloatGraph, node: FloatNode) -> bool:
    """Return whether scaling a channel of the input scales that channel of the output."""
    match node:
        case Activation(function=Clamp(low=low, high=high)):
            return low == 0 and high == float("inf")
        case Activation(function=LeakyRelu() | PRelu()):
            return True
        case MaxPool() | AvgPool() | GlobalAvgPool() | Pad() | Upsample():
            return True
        case Reshape():  # dropping the axes of a single pixel
            before, after = (graph.values[v].shape for v in (node.inputs[0], node.output))
            return before[:2] == after[:2]
        case _:
            return False


def _factors(first: Layer, second: Layer) -> Factors:
    """Return s [C], which gives both layers the geometric mean of their ranges per channel."""
    written = np.abs(first.weight).reshape(len(first.weight), -1).max(axis=1)
    read = np.abs(_by_input(second)).max(axis=1)
    ratio = np.divide(written, read, out=np.ones_like(written), where=(written > 0) & (read > 0))
    factors: Factors = np.sqrt(np.clip(ratio, 1 / MOST, MOST)).astype(np.float32)
    return factors


def _by_input(node: Layer) -> Factors:
    """Return the weights that multiply each input channel, [C, ...]."""
    groups = node.groups if isinstance(node, FloatConv2d) else 1
    split = node.weight.reshape(groups, len(node.weight) // groups, node.weight.shape[1], -1)
    return split.swapaxes(1, 2).reshape(groups * node.weight.shape[1], -1)


def _shrink_outputs(node: Layer, factors: Factors) -> Layer:
    divisor = factors.reshape(-1, *[1] * (node.weight.ndim - 1))
    return replace(node, weight=node.weight / divisor, bias=node.bias / factors)


def _grow_inputs(node: Layer, factors: Factors) -> Layer:
    groups = node.groups if isinstance(node, FloatConv2d) else 1
    grouped = factors.reshape(groups, 1, -1, *[1] * (node.weight.ndim - 2))
    split = node.weight.reshape(groups, len(node.weight) // groups, *node.weight.shape[1:])
    return replace(node, weight=(split * grouped).reshape(node.weight.shape))
