"""Counts as published tables have them, to compare with; gmpq itself counts exactly.

LIMPQ's hook multiplies output sizes before it rounds them down: a 7x7 convolution of stride 2 on
224 pixels has 112.5 rows, and 12656 = floor(112.5 * 112.5) outputs instead of 12544.
"""

from __future__ import annotations

import math

from gmpq.ir import FloatConv2d, FloatGraph, FloatLinear


def limpq_macs(graph: FloatGraph) -> dict[str, int]:
    """Return the MACs of every layer as LIMPQ's hook counts them."""
    return {
        node.name: _macs(graph, node)
        for node in graph.nodes
        if isinstance(node, FloatConv2d | FloatLinear)
    }


def limpq_bops(macs: dict[str, int], mean_product: float) -> float:
    """Return the BOPs at a mean ``w * a`` of the searched layers, the first and last at 8 and 8."""
    first, *searched, last = macs.values()
    return 64 * (first + last) + mean_product * sum(searched)


def _macs(graph: FloatGraph, node: FloatConv2d | FloatLinear) -> int:
    weights = int(node.weight.size)
    if isinstance(node, FloatLinear):
        return weights
    window = node.window
    height, width = graph.values[node.inputs[0]].shape[2:]
    top, left, bottom, right = window.padding
    rows = (height + top + bottom - window.reach[0]) / window.stride[0] + 1
    columns = (width + left + right - window.reach[1]) / window.stride[1] + 1
    return weights * math.floor(rows * columns)
