"""The meaning of every integer node, in numpy.

Each function below defines one node on codes; every other backend must return the same codes.
Sums of products of codes are whole numbers: they are taken in float64, where BLAS is fast and every
whole number below 2**53 is exact, and are then int32 by the bound that ``gmpq.spec`` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.ir import (
    Add,
    AvgPool,
    Concat,
    Conv2d,
    Dequantize,
    GlobalAvgPool,
    IntGraph,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Requantize,
    Reshape,
    Softmax,
    Upsample,
    Value,
    Window,
)

Tensor: TypeAlias = NDArray[Any]  # uint8 codes, or float32 before Quantize and after Dequantize


def run(graph: IntGraph, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every value of ``graph`` by name for ``inputs`` by name, float32 [N, C, H, W].

    Values with codes are uint8, others float32, all in the shapes of the graph.
    """
    tensors = dict(inputs)
    for node in graph.nodes:
        tensors[node.output] = compute(graph, node, [tensors[name] for name in node.inputs])
    return tensors


def compute(graph: IntGraph, node: Node, inputs: list[Tensor]) -> Tensor:
    """Return a node's output for its inputs, in the graph's shapes: uint8 codes, or float32."""
    sources = [graph.values[name] for name in node.inputs]
    target = graph.values[node.output]
    match node:
        case Quantize():
            return numerics.quantize(inputs[0], *_encoding(target))
        case Dequantize():
            q = _q(sources[0])
            return numerics.dequantize(inputs[0], q.scale, q.zero_point)
        case Requantize():
            return requantize(inputs[0], _q(sources[0]), target)
        case Conv2d() | Linear():
            return _layer(inputs[0], node, _q(sources[0]), target.q)
        case Lookup():
            return look_up(inputs[0], node.table)
        case Add():
            return add(inputs[0], inputs[1], _q(sources[0]), _q(sources[1]), _q(target))
        case Multiply():
            return product(inputs[0], inputs[1], _q(sources[0]), _q(sources[1]), _q(target))
        case Concat():
            return np.concatenate(inputs, axis=1)
        case MaxPool():
            return max_pool(inputs[0], node.window)
        case AvgPool():
            return avg_pool(inputs[0], node, _q(sources[0]), _q(target))
        case GlobalAvgPool():
            return global_avg_pool(inputs[0], _q(sources[0]), _q(target))
        case Pad():
            return pad(inputs[0], node.padding, _q(target).zero_point)
        case Reshape():
            return inputs[0].reshape(target.shape)
        case Upsample():
            return upsample(inputs[0], node.factors)
        case Softmax():
            return softmax(inputs[0])
        case _:
            assert_never(node)


def requantize(x: Tensor, q: QParams, target: Value) -> Tensor:
    """Return codes ``x`` [...] of ``q`` as codes of ``target``.

    ONNX ``DequantizeLinear``, ``QuantizeLinear`` and ``Clip`` in float32.
    """
    real = numerics.dequantize(x, q.scale, q.zero_point)
    return numerics.quantize(real, *_encoding(target))


def upsample(x: Tensor, factors: tuple[int, int]) -> Tensor:
    """Return every pixel of ``x`` [N, C, H, W], of any type, repeated along rows and columns.

    ONNX ``Resize`` of mode ``nearest``, by whole factors.
    """
    rows, columns = factors
    return x.repeat(rows, axis=2).repeat(columns, axis=3)


def convolve(x: Tensor, zero_point: int, node: Conv2d) -> numerics.Accumulators:
    """Return the int32 accumulators [N, O, oH, oW] of codes [N, I, H, W], bias included.

    ONNX ``ConvInteger``, whose padding is the zero point, and an ``Add``.
    """
    centred = pad(x, node.window.padding, zero_point).astype(np.float64) - zero_point
    patches = windows(centred, node.window)  # [N, I, oH, oW, kH, kW]
    batch, channels, rows, columns = patches.shape[:4]
    grouped = patches.reshape(batch, node.groups, channels // node.groups, *patches.shape[2:])
    columns_of = grouped.transpose(1, 0, 3, 4, 2, 5, 6)  # [g, N, oH, oW, I/g, kH, kW]
    lowered = columns_of.reshape(node.groups, batch * rows * columns, -1)
    weight = node.weight.codes.astype(np.float64).reshape(node.groups, -1, lowered.shape[2])
    sums = lowered @ weight.transpose(0, 2, 1)  # [g, N*oH*oW, O/g]
    acc = sums.reshape(node.groups, batch, rows, columns, -1).transpose(1, 0, 4, 2, 3)
    total: numerics.Accumulators = acc.reshape(batch, -1, rows, columns).astype(np.int32)
    total += node.weight.bias[:, None, None]
    return total


def multiply(x: Tensor, zero_point: int, weight: QWeight) -> numerics.Accumulators:
    """Return the int32 accumulators [N, O] of codes [N, I], bias included: ``MatMulInteger``."""
    sums = (x.astype(np.float64) - zero_point) @ weight.codes.astype(np.float64).T
    acc: numerics.Accumulators = sums.astype(np.int32) + weight.bias
    return acc


def add(a: Tensor, b: Tensor, qa: QParams, qb: QParams, qy: QParams) -> Tensor:
    """Return the sum [...] of codes of one scale and shape: integer addition with saturation."""
    total = a.astype(np.int32) - qa.zero_point + b - qb.zero_point + qy.zero_point
    return np.clip(total, qy.low, qy.high).astype(np.uint8)


def product(a: Tensor, b: Tensor, qa: QParams, qb: QParams, qy: QParams) -> Tensor:
    """Return the requantized product of codes [N, C, H, W] that broadcast.

    Products are below 2**16, so that float32 holds them exactly.
    """
    acc = (a.astype(np.int32) - qa.zero_point) * (b.astype(np.int32) - qb.zero_point)
    factor = numerics.multiplier(numerics.product_scale(qa.scale, qb.scale), qy.scale)
    return numerics.requantize(acc, factor, qy.zero_point, qy.low, qy.high)


def look_up(x: Tensor, table: NDArray[np.uint8]) -> Tensor:
    """Return uint8 ``table[x]`` of codes ``x`` [N, C, ...] for a table [256].

    A table [C, 256] has a row per channel.
    """
    if table.ndim == 1:
        return table[x]
    channel = np.arange(x.shape[1]).reshape(1, -1, *[1] * (x.ndim - 2))
    return table[channel, x]


def pad(x: Tensor, padding: Padding, fill: float) -> Tensor:
    """Return ``x`` [N, C, H, W], of any type, in ``fill``: ONNX ``Pad`` of mode ``constant``."""
    if not any(padding):
        return x
    rows = (padding.top, padding.bottom)
    columns = (padding.left, padding.right)
    return np.pad(x, ((0, 0), (0, 0), rows, columns), constant_values=fill)


def windows(padded: Tensor, window: Window) -> Tensor:
    """Return the patches [N, C, oH, oW, kH, kW] of a padded image of any type, as a view."""
    view = sliding_window_view(padded, window.reach, axis=(2, 3))
    (sy, sx), (dy, dx) = window.stride, window.dilation
    return view[:, :, ::sy, ::sx, ::dy, ::dx]


def max_pool(x: Tensor, window: Window) -> Tensor:
    """Return the largest code [N, C, oH, oW] under each window: ONNX ``MaxPool``.

    Padding is the smallest code, 0.
    """
    largest: Tensor = windows(pad(x, window.padding, 0), window).max(axis=(4, 5))
    return largest


def divisors(shape: tuple[int, int], node: AvgPool) -> NDArray[np.float64]:
    """Return the number of elements that each window counts [oH, oW], for an image [H, W]."""
    ones = np.ones((1, 1, *shape))
    counted = pad(ones, node.counted, 1)
    beyond = Padding(*(p - c for p, c in zip(node.window.padding, node.counted, strict=True)))
    counts: NDArray[np.float64] = windows(pad(counted, beyond, 0), node.window).sum(axis=(4, 5))[
        0, 0
    ]
    return counts


def avg_pool(x: Tensor, node: AvgPool, qx: QParams, qy: QParams) -> Tensor:
    """Return the codes [N, C, oH, oW] of the mean under each window: ONNX ``AveragePool``."""
    centred = pad(x, node.window.padding, qx.zero_point).astype(np.int32) - qx.zero_point
    acc = windows(centred, node.window).sum(axis=(4, 5), dtype=np.int32)
    counts = divisors((x.shape[2], x.shape[3]), node)
    factor = numerics.average_multiplier(qx.scale, qy.scale, counts)
    return numerics.requantize(acc, factor, qy.zero_point, qy.low, qy.high)


def global_avg_pool(x: Tensor, qx: QParams, qy: QParams) -> Tensor:
    """Return the codes [N, C, 1, 1] of the mean over space: ONNX ``GlobalAveragePool``."""
    acc = (x.astype(np.int32) - qx.zero_point).sum(axis=(2, 3), keepdims=True, dtype=np.int32)
    count = np.array(x.shape[2] * x.shape[3])
    factor = numerics.average_multiplier(qx.scale, qy.scale, count)
    return numerics.requantize(acc, factor, qy.zero_point, qy.low, qy.high)


def softmax(x: Tensor) -> Tensor:
    """Return the float32 softmax of ``x`` [N, C, ...] over axis 1: ONNX ``Softmax``."""
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    probabilities: Tensor = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _layer(x: Tensor, node: Conv2d | Linear, qx: QParams, qy: QParams | None) -> Tensor:
    """Return a layer's codes of ``qy``, or the float32 values of its accumulators."""
    match node:
        case Conv2d():
            acc = convolve(x, qx.zero_point, node)
        case Linear():
            acc = multiply(x, qx.zero_point, node.weight)
        case _:
            assert_never(node)
    scale = numerics.accumulator_scale(qx.scale, node.weight.scale)
    scale = scale.reshape(1, -1, *[1] * (acc.ndim - 2))
    if qy is None:
        return numerics.rescale(acc, scale)
    factor = numerics.multiplier(scale, qy.scale)
    return numerics.requantize(acc, factor, qy.zero_point, qy.low, qy.high)


def _encoding(value: Value) -> tuple[float, int, int, int]:
    q = _q(value)
    return q.scale, q.zero_point, q.low, q.high


def _q(value: Value) -> QParams:
    assert value.q is not None, f"{value.name} must hold codes"
    return value.q
