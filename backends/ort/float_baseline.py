"""The float graph as an ONNX model: the baseline that quantized programs are measured against."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from onnx import ModelProto, helper

from gmpq.backends.reference import divisors
from gmpq.export.builder import Attribute, Draft
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import (
    NO_PADDING,
    Activation,
    Add,
    AvgPool,
    Clamp,
    Concat,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    GlobalAvgPool,
    HardSwish,
    LeakyRelu,
    MaxPool,
    Multiply,
    Pad,
    Padding,
    PRelu,
    Reshape,
    Sigmoid,
    Silu,
    Softmax,
    Upsample,
    Window,
)

OPSET = 14  # HardSwish


def to_float_onnx(graph: FloatGraph) -> ModelProto:
    """Return ``graph`` as an ONNX model in float32; weights are initializers."""
    draft = Draft(WeightStorage.INT8, graph.values, opset=OPSET)
    for node in graph.nodes:
        draft.owner = node.name
        _emit(draft, node)
    body = helper.make_graph(
        draft.nodes,
        graph.name,
        [draft.info(name) for name in graph.inputs],
        [draft.info(name) for name in graph.outputs],
        list(draft.initializers.values()),
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], producer_name="gmpq")
    model.ir_version = helper.find_min_ir_version_for([opset])
    return model


def _emit(draft: Draft, node: FloatNode) -> None:
    match node:
        case FloatConv2d():
            attributes = {**_slide(node.window), "group": node.groups}
            draft.add("Conv", _operands(draft, node), node.output, attributes)
        case FloatLinear():
            draft.add("Gemm", _operands(draft, node), node.output, {"transB": 1})
        case Activation():
            _activation(draft, node)
        case Add():
            draft.add("Add", node.inputs, node.output)
        case Multiply():
            draft.add("Mul", node.inputs, node.output)
        case Concat():
            draft.add("Concat", node.inputs, node.output, {"axis": 1})
        case MaxPool():
            _max_pool(draft, node)
        case AvgPool():
            _avg_pool(draft, node)
        case GlobalAvgPool():
            draft.add("GlobalAveragePool", node.inputs, node.output)
        case Pad():
            _pad(draft, node.inputs[0], node.padding, 0.0, node.output)
        case Reshape():
            draft.reshape(node.inputs[0], node.output, draft.values[node.output].shape)
        case Upsample():
            _upsample(draft, node)
        case Softmax():
            draft.add("Softmax", node.inputs, node.output, {"axis": 1})
        case _:
            assert_never(node)


def _operands(draft: Draft, node: FloatConv2d | FloatLinear) -> tuple[str, str, str]:
    weight = draft.constant(f"{node.name}:weight", node.weight)
    return node.inputs[0], weight, draft.constant(f"{node.name}:bias", node.bias)


def _activation(draft: Draft, node: Activation) -> None:
    (source,), output = node.inputs, node.output
    match node.function:
        case Clamp(low=0.0, high=high) if high == float("inf"):
            draft.add("Relu", (source,), output)
        case Clamp(low=low, high=high):
            bounds = (("low", low), ("high", high))
            limits = [
                draft.constant(f"{output}:{name}", np.array(bound, np.float32))
                for name, bound in bounds
            ]
            draft.add("Clip", (source, *limits), output)
        case LeakyRelu(slope=slope):
            slopes = draft.constant(f"{output}:slope", np.array([slope], np.float32))
            draft.add("PRelu", (source, slopes), output)
        case PRelu(slopes=slopes):
            axes = len(draft.values[source].shape) - 2
            shaped = slopes.reshape(-1, *[1] * axes)
            draft.add("PRelu", (source, draft.constant(f"{output}:slopes", shaped)), output)
        case Silu():
            gate = draft.add("Sigmoid", (source,), f"{output}:gate")
            draft.add("Mul", (source, gate), output)
        case HardSwish():
            draft.add("HardSwish", (source,), output)
        case Sigmoid():
            draft.add("Sigmoid", (source,), output)
        case _:
            assert_never(node.function)


def _slide(window: Window) -> dict[str, Attribute]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": window.padding,
        "dilations": window.dilation,
    }


def _max_pool(draft: Draft, node: MaxPool) -> None:
    (rows, columns), (top, left, bottom, right) = node.window.kernel, node.window.padding
    attributes, source = _slide(node.window), node.inputs[0]
    if max(top, bottom) >= rows or max(left, right) >= columns:  # onnxruntime refuses these
        source = _pad(draft, source, node.window.padding, -np.inf, f"{node.output}:padded")
        attributes["pads"] = NO_PADDING
    draft.add("MaxPool", (source,), node.output, attributes)


def _avg_pool(draft: Draft, node: AvgPool) -> None:
    """Add the mean of the padded image, times window size / counted elements where they differ."""
    source, window = node.inputs[0], node.window
    size = window.kernel[0] * window.kernel[1]
    _, _, height, width = draft.values[source].shape
    counts = divisors((height, width), node)
    if any(window.padding):
        source = _pad(draft, source, window.padding, 0.0, f"{node.output}:padded")
    attributes: dict[str, Attribute] = {"kernel_shape": window.kernel, "strides": window.stride}
    if (counts == size).all():
        draft.add("AveragePool", (source,), node.output, attributes)
        return
    mean = draft.add("AveragePool", (source,), f"{node.output}:mean", attributes)
    factor = draft.constant(f"{node.output}:factor", (size / counts).astype(np.float32))
    draft.add("Mul", (mean, factor), node.output)


def _pad(draft: Draft, source: str, padding: Padding, fill: float, output: str) -> str:
    pads = draft.pads(f"{output}:pads", padding)
    value = draft.constant(f"{output}:fill", np.array(fill, np.float32))
    return draft.add("Pad", (source, pads, value), output)


def _upsample(draft: Draft, node: Upsample) -> None:
    scales = draft.constant(f"{node.output}:factors", np.array((1, 1, *node.factors), np.float32))
    attributes: dict[str, Attribute] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    draft.add("Resize", (node.inputs[0], "", scales), node.output, attributes)
