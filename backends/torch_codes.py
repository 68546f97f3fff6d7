"""The integer graph in torch: codes held in floating point, where whole numbers stay exact.

Sums of products are taken in float32 when the layer's real weights and the range of its input prove
that every partial sum is below 2**24, else in float64. Written apart from the numpy reference, so
that the two check each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from gmpq.backends.base import Tensor
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
)

EXACT_FLOAT32 = 1 << 24  # whole numbers up to here are float32 numbers


@dataclass(frozen=True, slots=True, eq=False)
class TorchCodes:
    """A program that runs ``graph`` in torch; the batch of the inputs is free."""

    graph: IntGraph

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name for ``inputs`` by name, float32 [N, C, H, W]."""
        found = self._sweep(inputs)
        return {name: found[name].numpy() for name in self.graph.outputs}

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the uint8 codes [N, C, ...] of every quantized value by name."""
        found = self._sweep(inputs)
        held = [value.name for value in self.graph.values.values() if value.q is not None]
        return {name: found[name].numpy().astype(np.uint8) for name in held}

    def _sweep(self, inputs: Mapping[str, Tensor]) -> dict[str, torch.Tensor]:
        found = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in inputs.items()}
        for node in self.graph.nodes:
            found[node.output] = compute(self.graph, node, [found[name] for name in node.inputs])
        return found


def compute(graph: IntGraph, node: Node, inputs: list[torch.Tensor]) -> torch.Tensor:
    """Return the output of one node, [N, C, ...]; codes are float32 numbers here."""
    sources = [graph.values[name] for name in node.inputs]
    target = graph.values[node.output]
    with torch.inference_mode():
        match node:
            case Quantize():
                return _quantize(inputs[0], _q(target))
            case Dequantize():
                return _dequantize(inputs[0], _q(sources[0]))
            case Requantize():
                return _quantize(_dequantize(inputs[0], _q(sources[0])), _q(target))
            case Conv2d() | Linear():
                acc = accumulate(graph, node, inputs[0])
                return _epilogue(acc, _scales(node.weight, _q(sources[0]), acc.ndim), target.q)
            case AvgPool() | GlobalAvgPool():
                return _average(node, inputs[0], _q(sources[0]), _q(target))
            case Lookup():
                return _look_up(inputs[0], torch.from_numpy(node.table))
            case Add():
                return _add(inputs, [_q(source) for source in sources], _q(target))
            case Multiply():
                return _multiply(inputs, [_q(source) for source in sources], _q(target))
            case Softmax():
                return F.softmax(inputs[0], dim=1)
            case Concat() | MaxPool() | Pad() | Reshape() | Upsample():
                return _move(node, inputs, target)
            case _:
                assert_never(node)


def accumulate(graph: IntGraph, node: Conv2d | Linear, x: torch.Tensor) -> torch.Tensor:
    """Return the int32 accumulators [N, O, ...] of a layer for codes ``x`` [N, I, ...], with bias.

    ``torch.nn.functional.conv2d`` and ``linear`` compute them in the smallest float type that holds
    every sum exactly.
    """
    q = _q(graph.values[node.inputs[0]])
    reach = max(abs(q.low - q.zero_point), abs(q.high - q.zero_point))
    magnitudes = np.abs(node.weight.codes.astype(np.int64)).reshape(len(node.weight.codes), -1)
    exact = torch.float32 if magnitudes.sum(1).max() * reach < EXACT_FLOAT32 else torch.float64
    weight = torch.from_numpy(node.weight.codes).to(exact)
    centred = (x - q.zero_point).to(exact)
    match node:
        case Conv2d():
            sums = _convolve(_enlarge(centred, node.window.padding, 0), weight, node)
        case Linear():
            sums = F.linear(centred, weight)
        case _:
            assert_never(node)
    bias = torch.from_numpy(node.weight.bias)
    return sums.to(torch.int32) + bias.reshape(1, -1, *[1] * (sums.ndim - 2))


def _convolve(padded: torch.Tensor, weight: torch.Tensor, node: Conv2d) -> torch.Tensor:
    window = node.window
    # NNPACK convolves by Winograd and Fourier transforms, which round
    with torch.backends.nnpack.flags(enabled=False):
        return F.conv2d(padded, weight, None, window.stride, 0, window.dilation, groups=node.groups)


def _average(
    node: AvgPool | GlobalAvgPool, x: torch.Tensor, qx: QParams, qy: QParams
) -> torch.Tensor:
    centred = (x - qx.zero_point).to(torch.float64)
    match node:
        case GlobalAvgPool():
            sums = centred.sum(dim=(2, 3), keepdim=True)
            count = torch.tensor(x.shape[2] * x.shape[3], dtype=torch.float32)
        case AvgPool():
            sums = _window_sums(_enlarge(centred, node.window.padding, 0), node)
            count = _counts(node, x.shape).to(torch.float32)
        case _:
            assert_never(node)
    factor = _f32(qx.scale) / (_f32(qy.scale) * count)
    return _requantize(sums.to(torch.int32), factor, qy)


def _window_sums(padded: torch.Tensor, node: AvgPool) -> torch.Tensor:
    assert node.window.dilation == (1, 1), f"{node.name}: average pooling has no dilation"
    return F.avg_pool2d(padded, node.window.kernel, node.window.stride, divisor_override=1)


def _counts(node: AvgPool, shape: torch.Size) -> torch.Tensor:
    ones = torch.ones(1, 1, *shape[2:], dtype=torch.float64)
    beyond = Padding(*(p - c for p, c in zip(node.window.padding, node.counted, strict=True)))
    return _window_sums(_enlarge(_enlarge(ones, node.counted, 1), beyond, 0), node)


def _add(inputs: list[torch.Tensor], sources: list[QParams], target: QParams) -> torch.Tensor:
    centred = [x - q.zero_point for x, q in zip(inputs, sources, strict=True)]
    return (centred[0] + centred[1] + target.zero_point).clamp(target.low, target.high)


def _multiply(inputs: list[torch.Tensor], sources: list[QParams], target: QParams) -> torch.Tensor:
    centred = [x - q.zero_point for x, q in zip(inputs, sources, strict=True)]
    scale = _f32(sources[0].scale) * _f32(sources[1].scale)
    return _requantize(centred[0] * centred[1], scale / _f32(target.scale), target)


def _look_up(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    codes = x.to(torch.int64)
    if table.ndim == 1:
        return table[codes].to(torch.float32)
    by_channel = codes.transpose(0, 1).flatten(1)  # [C, N * ...]
    found = table.gather(1, by_channel).to(torch.float32)
    return found.reshape(codes.transpose(0, 1).shape).transpose(0, 1)


def _move(
    node: Concat | MaxPool | Pad | Reshape | Upsample, inputs: list[torch.Tensor], target: Value
) -> torch.Tensor:
    x = inputs[0]
    match node:
        case Concat():
            return torch.cat(inputs, dim=1)
        case MaxPool():
            window = node.window
            padded = _enlarge(x, window.padding, 0)
            return F.max_pool2d(padded, window.kernel, window.stride, 0, window.dilation)
        case Pad():
            return _enlarge(x, node.padding, _q(target).zero_point)
        case Reshape():
            return x.reshape(len(x), *target.shape[1:])
        case Upsample():
            rows, columns = node.factors
            return x.repeat_interleave(rows, dim=2).repeat_interleave(columns, dim=3)
        case _:
            assert_never(node)


def _enlarge(x: torch.Tensor, padding: Padding, fill: float) -> torch.Tensor:
    sides = [padding.left, padding.right, padding.top, padding.bottom]
    return F.pad(x, sides, value=fill) if any(sides) else x


def _scales(weight: QWeight, qx: QParams, axes: int) -> torch.Tensor:
    scale = torch.from_numpy(weight.scale) * _f32(qx.scale)
    return scale.reshape(1, -1, *[1] * (axes - 2))


def _epilogue(acc: torch.Tensor, scale: torch.Tensor, q: QParams | None) -> torch.Tensor:
    if q is None:
        return acc.to(torch.float32) * scale
    return _requantize(acc, scale / _f32(q.scale), q)


def _requantize(acc: torch.Tensor, factor: torch.Tensor, q: QParams) -> torch.Tensor:
    return _clip(torch.round(acc.to(torch.float32) * factor), q)


def _quantize(real: torch.Tensor, q: QParams) -> torch.Tensor:
    steps = torch.round(real / _f32(q.scale))
    return _clip(steps.masked_fill(steps.isnan(), -torch.inf), q)  # NaN is the lowest code


def _clip(steps: torch.Tensor, q: QParams) -> torch.Tensor:
    return (steps + q.zero_point).clamp(q.low, q.high)


def _dequantize(codes: torch.Tensor, q: QParams) -> torch.Tensor:
    return (codes - q.zero_point) * _f32(q.scale)


def _f32(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float32)


def _q(value: Value) -> QParams:
    assert value.q is not None, f"{value.name} must hold codes"
    return value.q
