"""Which values of a float graph can be negative: a layer that reads one needs signed codes."""

from __future__ import annotations

from typing import assert_never

from gmpq.ir import (
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
    MaxPool,
    Multiply,
    Pad,
    Reshape,
    Sigmoid,
    Softmax,
    Upsample,
)


def signed_inputs(graph: FloatGraph) -> dict[str, bool]:
    """Return for each layer by name whether its input can be negative; the network's own can."""
    signed = dict.fromkeys(graph.inputs, True)
    for node in graph.nodes:
        signed[node.output] = _signed(node, any(signed[name] for name in node.inputs))
    return {
        node.name: signed[node.inputs[0]]
        for node in graph.nodes
        if isinstance(node, FloatConv2d | FloatLinear)
    }


def _signed(node: FloatNode, inputs: bool) -> bool:
    match node:
        case FloatConv2d() | FloatLinear():
            return True
        case Activation(function=Clamp(low=low)):
            return low < 0 and inputs
        case Activation(function=Sigmoid()) | Softmax():
            return False
        case (
            Activation()
            | Add()
            | Multiply()
            | Concat()
            | MaxPool()
            | AvgPool()
            | GlobalAvgPool()
            | Pad()
            | Reshape()
            | Upsample()
        ):
            return inputs
        case _:
            assert_never(node)
