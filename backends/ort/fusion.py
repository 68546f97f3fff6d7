"""Did it fuse? The operators that onnxruntime runs, and the layers that it runs in float."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from onnx import ModelProto

from gmpq.backends.ort.optimized import optimize, original_name
from gmpq.backends.ort.session import Level
from gmpq.ir import (
    Concat,
    Dequantize,
    IntGraph,
    Lookup,
    Multiply,
    Node,
    Quantize,
    Requantize,
    Reshape,
    Softmax,
    Value,
)

Json: TypeAlias = dict[str, object]

INTEGER = frozenset(
    {
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QGemm",
        "QLinearAdd",
        "QLinearConcat",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
    }
)
# Operators of any type: they move codes, unless they read what DequantizeLinear writes.
MOVING = frozenset({"Concat", "MaxPool", "NhwcMaxPool", "Pad", "Reshape", "Resize"})


@dataclass(frozen=True, slots=True)
class Fallback:
    """A layer that onnxruntime computes in float32: right, and slow."""

    layer: str
    operator: str

    def __str__(self) -> str:
        """Return the line of the report."""
        return f"{self.layer}: {self.operator} runs in float"


@dataclass(frozen=True, slots=True)
class FusionReport:
    """What onnxruntime made of the model."""

    operators: tuple[tuple[str, int], ...]  # name and count, most frequent first
    fallbacks: tuple[Fallback, ...]  # in execution order

    def to_json(self) -> Json:
        """Return the report as plain values."""
        fallbacks = [{"layer": f.layer, "operator": f.operator} for f in self.fallbacks]
        return {"operators": dict(self.operators), "fallbacks": fallbacks}


def report(model: ModelProto, graph: IntGraph, level: Level = Level.ALL) -> FusionReport:
    """Return what onnxruntime runs for ``model``, which was written from ``graph``.

    Raises:
        TargetError: if this onnxruntime cannot load the model.
    """
    operators = optimize(model, level).graph.node
    counts = Counter(op.op_type for op in operators)
    real = {out for op in operators if op.op_type == "DequantizeLinear" for out in op.output}
    in_float: dict[str, str] = {}
    for op in operators:
        moving = op.op_type in MOVING and not real.intersection(op.input)
        if op.op_type not in INTEGER and not moving:
            in_float[original_name(op.name)] = op.op_type
    fallbacks = [
        Fallback(node.name, in_float[node.name])
        for node in graph.nodes
        if node.name in in_float and _has_integer_kernel(node, graph.values[node.output])
    ]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return FusionReport(tuple(ordered), tuple(fallbacks))


def _has_integer_kernel(node: Node, output: Value) -> bool:
    """Return whether float32 is a loss.

    It is none where codes are made or read, in a table, or where float32 values move. The integer
    kernel of a product of two tensors rounds otherwise.
    """
    if isinstance(node, Concat | Reshape):
        return output.q is not None
    return not isinstance(node, Quantize | Dequantize | Requantize | Softmax | Lookup | Multiply)
