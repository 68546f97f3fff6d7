"""A batch norm becomes part of the layer before it.

``gamma * (W x + b - mean) / sqrt(variance + eps) + beta`` is a layer with the weight ``s * W`` and
the bias ``s * b + t``, where ``s`` and ``t`` are the scale and shift per channel that lowering puts
into an auxiliary depthwise 1x1 convolution. Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", CVPR 2018, section 3.2; operator
``torch.ops.aten.batch_norm`` in inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from gmpq.ir import FloatConv2d, FloatGraph, FloatLinear, FloatNode, Reshape
from gmpq.passes.dead_code import drop_dead_code
from gmpq.passes.replace_uses import replace_uses

Layer: TypeAlias = FloatConv2d | FloatLinear


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A graph without the batch norms that layers have absorbed."""

    graph: FloatGraph
    norms: Mapping[str, tuple[FloatConv2d, ...]]  # by layer, in the order in which they apply


def fold_batch_norms(graph: FloatGraph) -> Folded:
    """Return ``graph`` without the batch norms that are the only reader of a layer.

    Before: x -> Conv(W, b) -> y -> BatchNorm(s, t) -> z. After: x -> Conv(s * W, s * b + t) -> y,
    and y is read in the place of z. Reshapes that keep the channels may stand between the two.
    Batch norms after anything else stay auxiliary convolutions.
    """
    norms: dict[str, tuple[FloatConv2d, ...]] = {}
    for node in graph.nodes:
        norm = graph.producer(node.output)  # as the folds before it have left it
        if isinstance(norm, FloatConv2d) and norm.auxiliary:
            layer = _layer_before(graph, norm)
            if layer is not None:
                graph = _fold(graph, layer, norm)
                norms[layer.name] = (*norms.get(layer.name, ()), norm)
    return Folded(graph, norms)


def _fold(graph: FloatGraph, layer: Layer, norm: FloatConv2d) -> FloatGraph:
    absorbed = _absorb(layer, norm)
    nodes = tuple(absorbed if node.output == layer.output else node for node in graph.nodes)
    redirected = replace_uses(replace(graph, nodes=nodes), {norm.output: norm.inputs[0]})
    return drop_dead_code(redirected)


def _layer_before(graph: FloatGraph, norm: FloatConv2d) -> Layer | None:
    """Return the layer whose output only ``norm`` reads, perhaps through reshapes."""
    writers: dict[str, FloatNode] = {node.output: node for node in graph.nodes}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(graph.outputs)
    value = norm.inputs[0]
    while readers[value] == 1:
        match writers.get(value):
            case FloatConv2d() | FloatLinear() as layer if len(layer.bias) == len(norm.bias):
                return layer
            case Reshape(inputs=(source,)):
                value = source
            case _:
                return None
    return None


def _absorb(layer: Layer, norm: FloatConv2d) -> Layer:
    scale = norm.weight.reshape(-1).astype(np.float64)
    shape = (-1, *[1] * (layer.weight.ndim - 1))
    weight = (layer.weight * scale.reshape(shape)).astype(np.float32)
    bias = (layer.bias * scale + norm.bias).astype(np.float32)
    return replace(layer, weight=weight, bias=bias)
