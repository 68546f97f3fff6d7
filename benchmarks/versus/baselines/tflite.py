"""The W8A8 graph as a LiteRT model: the same codes, less 128, in the order [N, H, W, C].

The converter from PyTorch does not install together with TVM, so the file is written here.
"""

from __future__ import annotations

import click
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator, BuiltinOptions, TensorType

from gmpq import numerics
from gmpq.ir import (
    Add,
    Conv2d,
    Dequantize,
    GlobalAvgPool,
    IntGraph,
    Linear,
    MaxPool,
    Node,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Reshape,
    Shape,
    Value,
    Window,
)
from versus.baselines.tflite_draft import Draft, Encoding, Kind

SHIFT = 128  # LiteRT's codes are signed
SIX = 6.0

QUANTIZE = Kind(BuiltinOperator.QUANTIZE, 1, BuiltinOptions.QuantizeOptions)
DEQUANTIZE = Kind(BuiltinOperator.DEQUANTIZE, 2, BuiltinOptions.DequantizeOptions)
CONV = Kind(BuiltinOperator.CONV_2D, 3, BuiltinOptions.Conv2DOptions)
DEPTHWISE = Kind(BuiltinOperator.DEPTHWISE_CONV_2D, 3, BuiltinOptions.DepthwiseConv2DOptions)
LINEAR = Kind(BuiltinOperator.FULLY_CONNECTED, 4, BuiltinOptions.FullyConnectedOptions)
ADD = Kind(BuiltinOperator.ADD, 2, BuiltinOptions.AddOptions)
MAX_POOL = Kind(BuiltinOperator.MAX_POOL_2D, 2, BuiltinOptions.Pool2DOptions)
MEAN = Kind(BuiltinOperator.MEAN, 2, BuiltinOptions.ReducerOptions)
PAD = Kind(BuiltinOperator.PAD, 2, BuiltinOptions.PadOptions)
RESHAPE = Kind(BuiltinOperator.RESHAPE, 1, BuiltinOptions.ReshapeOptions)


def to_tflite(graph: IntGraph) -> bytes:
    """Return the LiteRT model of a graph of 8 bits.

    Raises:
        click.UsageError: the graph holds a node that is not written.
    """
    draft = Draft()
    numbers = {name: _declare(draft, graph.values[name]) for name in graph.inputs}
    for node in graph.nodes:
        numbers[node.output] = _declare(draft, graph.values[node.output])
        _emit(draft, graph, node, numbers)
    inputs, outputs = ([numbers[name] for name in names] for names in (graph.inputs, graph.outputs))
    return draft.finish(graph.name, inputs, outputs)


def channels_last(shape: Shape) -> Shape:
    """Return [N, H, W, C] for [N, C, H, W]; vectors stay."""
    return (shape[0], *shape[2:], shape[1])


def _declare(draft: Draft, value: Value) -> int:
    shape = channels_last(value.shape)
    if value.q is None:
        return draft.tensor(value.name, shape, TensorType.FLOAT32)
    encoding = Encoding(np.array([value.q.scale], np.float32), value.q.zero_point - SHIFT)
    return draft.tensor(value.name, shape, TensorType.INT8, encoding)


def _emit(draft: Draft, graph: IntGraph, node: Node, numbers: dict[str, int]) -> None:
    source, target = graph.values[node.inputs[0]], graph.values[node.output]
    inputs, output = [numbers[name] for name in node.inputs], numbers[node.output]
    match node:
        case Quantize():
            draft.operator(QUANTIZE, inputs, output, schema.QuantizeOptionsT())
        case Dequantize():
            draft.operator(DEQUANTIZE, inputs, output, schema.DequantizeOptionsT())
        case Conv2d():
            _convolution(draft, node, source, target, inputs[0], output)
        case Linear():
            options = schema.FullyConnectedOptionsT()
            options.fusedActivationFunction = _clip(target)
            weight = _weights(draft, node.name, node.weight, node.weight.codes, 0, source)
            draft.operator(LINEAR, [inputs[0], *weight], output, options)
        case Add():
            sum_options = schema.AddOptionsT()
            sum_options.fusedActivationFunction = _clip(target)
            draft.operator(ADD, inputs, output, sum_options)
        case MaxPool():
            _max_pool(draft, node, source, target, inputs[0], output)
        case GlobalAvgPool():
            axes = draft.constant(f"{node.name}:axes", np.array([1, 2], np.int32), TensorType.INT32)
            reducer = schema.ReducerOptionsT()
            reducer.keepDims = True
            draft.operator(MEAN, [inputs[0], axes], output, reducer)
        case Reshape() if source.shape[2:] in ((), (1, 1)):  # the order of elements stays
            shape = np.array(channels_last(target.shape), np.int32)
            number = draft.constant(f"{node.name}:shape", shape, TensorType.INT32)
            draft.operator(RESHAPE, [inputs[0], number], output, schema.ReshapeOptionsT())
        case _:
            raise click.UsageError(
                f"{node.name}: {type(node).__name__} is not written for LiteRT: "
                "leave litert-int8 out of --tools"
            )


def _convolution(
    draft: Draft, node: Conv2d, source: Value, target: Value, data: int, output: int
) -> None:
    codes = node.weight.codes.transpose(0, 2, 3, 1)  # [O, kH, kW, I / groups]
    deep = node.groups == source.shape[1] and codes.shape[3] == 1 and node.groups > 1
    options = schema.DepthwiseConv2DOptionsT() if deep else schema.Conv2DOptionsT()
    if deep:
        codes = codes.transpose(3, 1, 2, 0)  # [1, kH, kW, O]
        options.depthMultiplier = len(node.weight.codes) // node.groups
    weight = _weights(draft, node.name, node.weight, codes, 3 if deep else 0, source)
    data, options.padding = _padded(draft, node.name, node.window, source, target, data)
    options.strideH, options.strideW = node.window.stride
    options.dilationHFactor, options.dilationWFactor = node.window.dilation
    options.fusedActivationFunction = _clip(target)
    draft.operator(DEPTHWISE if deep else CONV, [data, *weight], output, options)


def _max_pool(
    draft: Draft, node: MaxPool, source: Value, target: Value, data: int, output: int
) -> None:
    options = schema.Pool2DOptionsT()
    data, options.padding = _padded(draft, node.name, node.window, source, target, data)
    options.strideH, options.strideW = node.window.stride
    options.filterHeight, options.filterWidth = node.window.kernel
    draft.operator(MAX_POOL, [data], output, options)


def _weights(
    draft: Draft,
    name: str,
    weight: QWeight,
    codes: np.typing.NDArray[np.int8],
    axis: int,
    source: Value,
) -> list[int]:
    """Add the weights of a layer, laid out as ``codes``, and its bias."""
    scale = numerics.accumulator_scale(_q(source).scale, weight.scale)
    return [
        draft.constant(f"{name}:weight", codes, TensorType.INT8, Encoding(weight.scale, axis=axis)),
        draft.constant(f"{name}:bias", weight.bias, TensorType.INT32, Encoding(scale)),
    ]


def _padded(
    draft: Draft, name: str, window: Window, source: Value, target: Value, data: int
) -> tuple[int, int]:
    """Return the tensor to slide over, and the padding that is left to the operator.

    LiteRT's SAME puts the odd row of padding at the bottom; what differs is padded beforehand.
    """
    sizes = zip(source.shape[2:], target.shape[2:], window.reach, window.stride, strict=True)
    needed = [(out - 1) * stride + reach - size for size, out, reach, stride in sizes]
    before = (window.padding.top, window.padding.left)
    after = tuple(max(0, total - first) for total, first in zip(needed, before, strict=True))
    if before == after == (0, 0):
        return data, schema.Padding.VALID
    halves = tuple(max(0, total) // 2 for total in needed)
    strides = zip(source.shape[2:], target.shape[2:], window.stride, strict=True)
    if before == halves and all(out == -(-size // stride) for size, out, stride in strides):
        return data, schema.Padding.SAME
    padding = Padding(before[0], before[1], after[0], after[1])
    return _pad(draft, name, padding, source, data), schema.Padding.VALID


def _pad(draft: Draft, name: str, padding: Padding, source: Value, data: int) -> int:
    rows, columns = (padding.top, padding.bottom), (padding.left, padding.right)
    widths = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
    batch, channels, height, width = source.shape
    shape = (batch, height + sum(rows), width + sum(columns), channels)
    q = _q(source)
    encoding = Encoding(np.array([q.scale], np.float32), q.zero_point - SHIFT)
    output = draft.tensor(f"{name}:padded", shape, TensorType.INT8, encoding)
    number = draft.constant(f"{name}:widths", widths, TensorType.INT32)
    draft.operator(PAD, [data, number], output, schema.PadOptionsT())
    return output


def _clip(target: Value) -> int:
    """Return the activation that clips to the codes of ``target``."""
    q = _q(target)
    kinds = schema.ActivationFunctionType
    if (q.low, q.high) == (0, q.maximum):
        return int(kinds.NONE)
    if (q.low, q.high) == (q.zero_point, q.maximum):
        return int(kinds.RELU)
    six = min(q.maximum, q.zero_point + round(SIX / q.scale))
    assert (q.low, q.high) == (q.zero_point, six), f"{target.name}: clips at neither 0 nor 6"
    return int(kinds.RELU6)


def _q(value: Value) -> QParams:
    assert value.q is not None, f"{value.name} must hold codes"
    return value.q
