"""The ONNX operators of each kind of node, one function per kind.

    Quantize      QuantizeLinear, and Clip for less than the range of uint8
    Dequantize    DequantizeLinear
    Requantize    DequantizeLinear, QuantizeLinear, Clip
    Conv2d        DequantizeLinear, Conv, QuantizeLinear; ConvInteger, Add, Cast, Mul for float32
    Linear        the same with Gemm, or MatMulInteger
    Lookup        Cast, GatherElements
    Add           DequantizeLinear, Add, QuantizeLinear
    Multiply      DequantizeLinear of scale 1, Mul, Mul by the factor, QuantizeLinear
    others        Concat, MaxPool, AveragePool, GlobalAveragePool, Pad, Reshape, Resize, Softmax

The operators are those of https://onnx.ai/onnx/operators/ (ai.onnx, opset 13; 21 and 25 for packed
weights of four and two bits).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import assert_never

import numpy as np
from onnx import TensorProto

from gmpq import numerics
from gmpq.export.builder import Attribute, Draft
from gmpq.ir import (
    NO_PADDING,
    Add,
    AvgPool,
    Concat,
    Conv2d,
    Dequantize,
    GlobalAvgPool,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    Padding,
    Quantize,
    Requantize,
    Reshape,
    Shape,
    Softmax,
    Upsample,
    Window,
)

FULL = (0, 255)  # the codes of uint8


def emit(draft: Draft, node: Node) -> None:
    """Add the ONNX nodes that compute ``node``."""
    draft.owner = node.name
    match node:
        case Quantize():
            _quantize(draft, node.inputs[0], node.output)
        case Dequantize():
            codes = node.inputs[0]
            draft.add("DequantizeLinear", (codes, *draft.encoding(codes)), node.output, main=True)
        case Requantize():
            draft.clipped(draft.dequantized(node.inputs[0]), node.output)
        case Conv2d() | Linear():
            _layer(draft, node)
        case Lookup():
            _lookup(draft, node)
        case AvgPool():
            _avg_pool(draft, node)
        case Add():
            _quantize(draft, _wrap(draft, node, "Add", {}), node.output)
        case Multiply():
            _multiply(draft, node)
        case Concat():
            _concat(draft, node)
        case MaxPool():
            _max_pool(draft, node)
        case GlobalAvgPool():
            _quantize(draft, _wrap(draft, node, "GlobalAveragePool", {}), node.output)
        case Pad():
            _pad(draft, node)
        case Reshape():
            _reshape(draft, node)
        case Upsample():
            _upsample(draft, node)
        case Softmax():
            draft.add("Softmax", node.inputs, node.output, {"axis": 1}, main=True)
        case _:
            assert_never(node)


def _wrap(draft: Draft, node: Node, operator: str, attributes: Mapping[str, Attribute]) -> str:
    """Add a float operator on the dequantized inputs and return its output."""
    reals = [draft.dequantized(name) for name in node.inputs]
    return draft.add(operator, reals, f"{node.output}:exact", attributes, main=True)


def _quantize(draft: Draft, real: str, value: str, scale: str | None = None) -> None:
    """Write ``real`` as codes; a full range needs no clip, since QuantizeLinear saturates."""
    q = draft.q(value)
    if (q.low, q.high) == FULL:
        draft.quantized(real, value, scale)
    else:
        draft.clipped(real, value, scale)


def _concat(draft: Draft, node: Concat) -> None:
    axis = {"axis": 1}
    if draft.values[node.output].q is None:
        draft.add("Concat", node.inputs, node.output, axis, main=True)
    else:
        draft.quantized(_wrap(draft, node, "Concat", axis), node.output)


def _layer(draft: Draft, node: Conv2d | Linear) -> None:
    """Add a layer that writes codes, or at a network's output float32."""
    if draft.values[node.output].q is None:
        _real_layer(draft, node)
        return
    operator: str
    attributes: dict[str, Attribute]
    match node:
        case Conv2d():
            operator, attributes = "Conv", _sliding(node)
        case Linear():
            operator, attributes = "Gemm", {"transB": 1}
        case _:
            assert_never(node)
    weight = node.weight
    inputs = (
        draft.dequantized(node.inputs[0]),
        draft.weight(node.name, weight.codes, weight.scale, weight.bits),
        _bias(draft, node),
    )
    real = draft.add(operator, inputs, f"{node.output}:exact", attributes, main=True)
    _quantize(draft, real, node.output)


def _real_layer(draft: Draft, node: Conv2d | Linear) -> None:
    """Add a layer that writes float32: int32 sums, and one product.

    A Conv between DequantizeLinear and a float output would run in float. Weights are uint8: every
    onnxruntime convolves those, and its kernels for them add without saturation.
    """
    weight, (source,), axes = node.weight, node.inputs, [1] * (node.weight.codes.ndim - 2)
    codes, zero = weight.codes, draft.encoding(source)[1]
    match node:
        case Conv2d():
            operator, attributes = "ConvInteger", _sliding(node)
        case Linear():
            operator, attributes, codes = "MatMulInteger", {}, codes.T
        case _:
            assert_never(node)
    stored, middle = draft.unsigned_weight(node.name, codes, weight.bits)
    sums = (source, stored, zero, middle)
    acc = draft.add(operator, sums, f"{node.output}:sums", attributes, main=True)
    bias = draft.constant(f"{node.name}:bias", weight.bias.reshape(1, -1, *axes))
    acc = draft.add("Add", (acc, bias), f"{node.output}:biased")
    real = draft.add("Cast", (acc,), f"{node.output}:steps", {"to": TensorProto.FLOAT})
    scale = numerics.accumulator_scale(draft.q(source).scale, weight.scale).reshape(1, -1, *axes)
    draft.add("Mul", (real, draft.constant(f"{node.name}:bias-scale", scale)), node.output)


def _bias(draft: Draft, node: Conv2d | Linear) -> str:
    scale = numerics.accumulator_scale(draft.q(node.inputs[0]).scale, node.weight.scale)
    inputs = (
        draft.constant(f"{node.name}:bias", node.weight.bias),
        draft.constant(f"{node.name}:bias-scale", scale),
        draft.constant(f"{node.name}:bias-zero", np.zeros(len(scale), np.int32)),
    )
    return draft.add("DequantizeLinear", inputs, f"{node.name}:bias-real", attributes={"axis": 0})


def _multiply(draft: Draft, node: Multiply) -> None:
    """Add the product of centred codes, whole numbers in float32, times one factor.

    Dequantized codes, which QLinearMul fuses with, would be rounded before they are multiplied.
    """
    unit = draft.constant(f"{node.name}:unit", np.array(1, np.float32))
    centred = [
        draft.add("DequantizeLinear", (x, unit, draft.encoding(x)[1]), f"{node.output}:{side}")
        for x, side in zip(node.inputs, ("first", "second"), strict=True)
    ]
    product = draft.add("Mul", centred, f"{node.output}:product", main=True)
    scale = numerics.product_scale(*(draft.q(x).scale for x in node.inputs))
    factor = numerics.multiplier(scale, draft.q(node.output).scale)
    scaled = (product, draft.constant(f"{node.name}:factor", factor))
    steps = draft.add("Mul", scaled, f"{node.output}:steps")
    _quantize(draft, steps, node.output, unit)


def _sliding(node: Conv2d) -> dict[str, Attribute]:
    return {**_slide(node.window), "group": node.groups}


def _slide(window: Window) -> dict[str, Attribute]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": window.padding,
        "dilations": window.dilation,
    }


def _lookup(draft: Draft, node: Lookup) -> None:
    """Add a gather of one code per code, in the shape that GatherElements asks for."""
    shape = draft.values[node.inputs[0]].shape
    table, axis = node.table, 0
    flat: Shape = (prod(shape),)
    if table.ndim == 2:
        table = np.tile(table, (shape[0], 1, 1))  # [N, C, 256]
        axis, flat = 2, (*shape[:2], prod(shape[2:]))
    lined = draft.reshape(node.inputs[0], f"{node.output}:lined", flat)
    to_int32 = {"to": TensorProto.INT32}
    index = draft.add("Cast", (lined,), f"{node.output}:index", attributes=to_int32)
    found = (draft.constant(f"{node.name}:table", table), index)
    codes = draft.add("GatherElements", found, f"{node.output}:found", {"axis": axis}, main=True)
    draft.reshape(codes, node.output, shape)


def _max_pool(draft: Draft, node: MaxPool) -> None:
    """Add the pool; padding that onnxruntime refuses goes before it, as the smallest code."""
    window = node.window
    if _is_narrow(window):
        real = draft.dequantized(node.inputs[0])
    else:
        lowest = draft.constant(f"{node.name}:lowest", np.array(0, np.uint8))
        real = _padded(draft, node, window.padding, lowest)
        window = replace(window, padding=NO_PADDING)
    real = draft.add("MaxPool", (real,), f"{node.output}:exact", _slide(window), main=True)
    draft.quantized(real, node.output)


def _avg_pool(draft: Draft, node: AvgPool) -> None:
    """Add the pool; padding that counts, where other padding does not, goes before it."""
    window, counted = node.window, node.counted
    attributes = _slide(window)
    del attributes["dilations"]
    if any(counted) and (counted != window.padding or not _is_narrow(window)):
        real = _padded(draft, node, counted, draft.encoding(node.inputs[0])[1])
        attributes["pads"] = [p - c for p, c in zip(window.padding, counted, strict=True)]
    else:
        real = draft.dequantized(node.inputs[0])
        attributes["count_include_pad"] = int(any(counted))
    real = draft.add("AveragePool", (real,), f"{node.output}:exact", attributes, main=True)
    _quantize(draft, real, node.output)


def _is_narrow(window: Window) -> bool:
    """Return whether onnxruntime pools with this padding: narrower than the kernel."""
    (rows, columns), (top, left, bottom, right) = window.kernel, window.padding
    return max(top, bottom) < rows and max(left, right) < columns


def _padded(draft: Draft, node: MaxPool | AvgPool, padding: Padding, fill: str) -> str:
    """Pad the input's codes with ``fill`` and return their float32 reading."""
    source = node.inputs[0]
    inputs = (source, draft.pads(f"{node.name}:pads", padding), fill)
    codes = draft.add("Pad", inputs, f"{node.output}:padded")
    encoded = (codes, *draft.encoding(source))
    return draft.add("DequantizeLinear", encoded, f"{node.output}:padded-real")


def _pad(draft: Draft, node: Pad) -> None:
    """Add a padding of codes with the zero point."""
    inputs = (
        node.inputs[0],
        draft.pads(f"{node.name}:pads", node.padding),
        draft.encoding(node.output)[1],
    )
    draft.add("Pad", inputs, node.output, main=True)


def _reshape(draft: Draft, node: Reshape) -> None:
    shape, q = draft.values[node.output].shape, draft.values[node.output].q
    if q is None:
        draft.reshape(node.inputs[0], node.output, shape, main=True)
        return
    real = draft.dequantized(node.inputs[0])
    draft.quantized(draft.reshape(real, f"{node.output}:exact", shape, main=True), node.output)


def _upsample(draft: Draft, node: Upsample) -> None:
    scales = draft.constant(f"{node.name}:factors", np.array((1, 1, *node.factors), np.float32))
    attributes: dict[str, Attribute] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    inputs = (draft.dequantized(node.inputs[0]), "", scales)
    real = draft.add("Resize", inputs, f"{node.output}:exact", attributes, main=True)
    draft.quantized(real, node.output)
