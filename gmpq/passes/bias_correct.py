"""Bias correction: what rounding the weights adds to a channel's mean is taken from its bias.

    bias[o] = round((b[o] + sum_k (w[o, k] - s_w[o] * codes[o, k]) * mean(x[k])) / (s_x * s_w[o]))

with the mean of each input channel over the calibration data, in real numbers: each layer corrects
its own error only. Nagel et al., "Data-free quantization through weight equalization and bias
correction", ICCV 2019, section 4.2. Matching the means of the quantized network layer after layer
instead was measured to collapse EfficientNet-Lite0 below 6 bits: late layers then answer the noise
of all before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.calib.statistics import Statistics
from gmpq.ir import Conv2d, FloatConv2d, FloatGraph, FloatLinear, IntGraph, Linear, QWeight
from gmpq.passes.weights import BIAS_LIMIT, check_accumulator


def bias_correct(
    graph: IntGraph, original: FloatGraph, statistics: Mapping[str, Statistics]
) -> IntGraph:
    """Return ``graph`` with biases that make up for the rounding of the weights.

    Zeros that pad a convolution's input count as its mean, which errs at the borders.

    Args:
        graph: the quantized network.
        original: the network that it was quantized from.
        statistics: of the values of ``original``; means are float64 [C].

    Raises:
        LoweringError: if a corrected layer may overflow its accumulator.
    """
    layers = {n.name: n for n in original.nodes if isinstance(n, FloatConv2d | FloatLinear)}
    return replace(
        graph,
        nodes=tuple(
            replace(node, weight=_corrected(graph, node, layers[node.name], statistics))
            if isinstance(node, Conv2d | Linear)
            else node
            for node in graph.nodes
        ),
    )


def _corrected(
    graph: IntGraph,
    node: Conv2d | Linear,
    layer: FloatConv2d | FloatLinear,
    statistics: Mapping[str, Statistics],
) -> QWeight:
    qx, weight = graph.values[node.inputs[0]].q, node.weight
    assert qx is not None, f"{node.name} must read codes"
    groups = node.groups if isinstance(node, Conv2d) else 1
    lost = _lost(layer.weight, weight, groups, statistics[layer.inputs[0]].means)
    steps = numerics.accumulator_scale(qx.scale, weight.scale).astype(np.float64)
    bias = numerics.round_half_even((layer.bias.astype(np.float64) + lost) / steps)
    bounded = np.clip(bias, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)
    corrected = replace(weight, bias=bounded)
    check_accumulator(node.name, corrected, qx)
    return corrected


def _lost(
    real: NDArray[np.float32], weight: QWeight, groups: int, means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean that each output channel [O] lost, for input channels of ``means`` [C]."""
    outputs, inputs = real.shape[:2]
    scale = weight.scale.astype(np.float64).reshape(-1, *[1] * (real.ndim - 1))
    error = (real - weight.codes * scale).reshape(outputs, inputs, -1).sum(axis=2)
    grouped = error.reshape(groups, outputs // groups, inputs)
    lost: NDArray[np.float64] = grouped @ means.reshape(groups, inputs, 1)
    return lost.reshape(outputs)
