"""Small integer graphs that tests name by what is in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gmpq import spec
from gmpq.ir import (
    Add,
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Node,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Requantize,
    Shape,
    Value,
    Window,
)

Q8 = QParams.full(0.05, 128, 8)
RELU4 = QParams(Q8.scale, 3, 4, 3, 15)


def chain(steps: list[tuple[Node, Shape, QParams]], shape: Shape, q: QParams) -> IntGraph:
    """Return Quantize to ``q``, the steps, then Dequantize; each step is named by its output.

    A step's node reads the values that it names, and ``""`` stands for the step before it.
    """
    values = {"x": Value("x", shape), "codes": Value("codes", shape, q)}
    nodes: list[Node] = [Quantize("codes", ("x",), "codes")]
    for node, output_shape, encoding in steps:
        inputs: Any = tuple(name or nodes[-1].output for name in node.inputs)
        nodes.append(replace(node, inputs=inputs, output=node.name))
        values[node.name] = Value(node.name, output_shape, encoding)
    last = values[nodes[-1].output]
    values["y"] = Value("y", last.shape)
    nodes.append(Dequantize("y", (last.name,), "y"))
    graph = Graph("chain", ("x",), ("y",), values, tuple(nodes))
    spec.check(graph)
    return graph


def weight(shape: Shape, bits: int, x: QParams, y: QParams, seed: int = 0) -> QWeight:
    """Return random codes of ``bits`` whose accumulators spread over the codes of ``y``."""
    rng = np.random.default_rng(seed)
    largest = max(1, (1 << (bits - 1)) - 1)
    codes = rng.integers(-largest, largest, shape, np.int8, endpoint=True)
    codes = np.where((codes == 0) & (bits == 1), 1, codes).astype(np.int8)
    reach = largest * np.sqrt(np.prod(shape[1:])) * x.maximum / 4
    scale = rng.uniform(0.5, 1.5, shape[0]) * y.scale * y.maximum / 4 / (x.scale * reach)
    bias = rng.normal(0, reach, shape[0]).astype(np.int32)
    return QWeight(codes, scale.astype(np.float32), bias, bits)


def residual() -> IntGraph:
    """Return one residual block: a 4-bit convolution of a narrowed stream, added to the stream."""
    image = (1, 2, 4, 4)
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    narrow = replace(RELU4, scale=0.5)
    conv = Conv2d("block.conv", ("",), "", weight((2, 2, 3, 3), 4, narrow, Q8), window)
    return chain(
        [
            (Requantize("codes.a4", ("codes",), ""), image, narrow),
            (conv, image, replace(Q8, zero_point=100)),
            (Add("block.add", ("block.conv", "codes"), ""), image, replace(Q8, low=128)),
        ],
        image,
        Q8,
    )
