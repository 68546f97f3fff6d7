"""An integer graph as one safetensors file: structure as JSON in its header, arrays as tensors.

The file holds numbers and names only, so reading it runs no code. ``FORMAT`` counts its versions:

- 1: first version.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as dump

from gmpq import spec
from gmpq.errors import JsonError, OutputError
from gmpq.files import strict_json
from gmpq.files.graph_fields import Arrays, read_graph
from gmpq.files.untrusted import require_file
from gmpq.ir import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dequantize,
    GlobalAvgPool,
    HardSwish,
    IntGraph,
    LeakyRelu,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    PRelu,
    Quantize,
    QWeight,
    Requantize,
    Reshape,
    Sigmoid,
    Silu,
    Softmax,
    Upsample,
    Value,
    Window,
)

FORMAT = 1
HEADER = "gmpq_graph"

Fields: TypeAlias = dict[str, Any]  # what JSON holds


def save(graph: IntGraph, path: Path) -> None:
    """Write ``graph`` to ``path``.

    Raises:
        OSError: the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    header = {
        "format": FORMAT,
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "values": [_value_fields(value) for value in graph.values.values()],
        "nodes": [_node_fields(node, arrays) for node in graph.nodes],
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path.write_bytes(dump(contiguous, {HEADER: json.dumps(header, allow_nan=False)}))


def load(path: Path) -> IntGraph:
    """Return the graph in the file at ``path``.

    Raises:
        OutputError: the file is missing, damaged, of another version, or no legal graph.
    """
    header, arrays = _read(path)
    try:
        graph = read_graph(FORMAT, strict_json.load(header), arrays)
        spec.check(graph)
    except (JsonError, AssertionError) as error:
        raise OutputError(
            f"{path}: not a saved graph: {error}: compile or finetune again"
        ) from error
    return graph


def _read(path: Path) -> tuple[str, Arrays]:
    require_file(path, OutputError)
    try:
        with safe_open(path, framework="np") as file:
            header = (file.metadata() or {}).get(HEADER, "null")
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(f"{path}: not a saved graph: {error}") from error


# --- to fields -----------------------------------------------------------------------------------


def _value_fields(value: Value) -> Fields:
    q = value.q
    fields: Fields = {"name": value.name, "shape": value.shape}
    if q is not None:
        fields["q"] = [q.scale, q.zero_point, q.bits, q.low, q.high]
    return fields


def _node_fields(node: Node, arrays: dict[str, NDArray[Any]]) -> Fields:
    fields: Fields = {
        "kind": type(node).__name__,
        "name": node.name,
        "inputs": node.inputs,
        "output": node.output,
    }
    match node:
        case Conv2d():
            fields |= {"window": _window_fields(node.window), "groups": node.groups}
            fields["bits"] = _weight_bits(node.name, node.weight, arrays)
        case Linear():
            fields["bits"] = _weight_bits(node.name, node.weight, arrays)
        case Lookup():
            arrays[f"{node.name}/table"] = node.table
            fields["function"] = _function_fields(node, arrays)
        case MaxPool():
            fields["window"] = _window_fields(node.window)
        case AvgPool():
            fields |= {"window": _window_fields(node.window), "counted": node.counted}
        case Pad():
            fields["padding"] = node.padding
        case Upsample():
            fields["factors"] = node.factors
        case Quantize() | Dequantize() | Requantize() | Add() | Multiply() | Concat():
            pass
        case GlobalAvgPool() | Reshape() | Softmax():
            pass
        case _:
            assert_never(node)
    return fields


def _weight_bits(name: str, weight: QWeight, arrays: dict[str, NDArray[Any]]) -> int:
    arrays[f"{name}/codes"] = weight.codes
    arrays[f"{name}/scale"] = weight.scale
    arrays[f"{name}/bias"] = weight.bias
    return weight.bits


def _window_fields(window: Window) -> Fields:
    return {
        "kernel": window.kernel,
        "stride": window.stride,
        "padding": window.padding,
        "dilation": window.dilation,
    }


def _function_fields(node: Lookup, arrays: dict[str, NDArray[Any]]) -> Fields:
    function = node.function
    fields: Fields = {"kind": type(function).__name__}
    match function:
        case Clamp():
            fields |= {"low": _number(function.low), "high": _number(function.high)}
        case LeakyRelu():
            fields["slope"] = function.slope
        case PRelu():
            arrays[f"{node.name}/slopes"] = function.slopes
        case Silu() | HardSwish() | Sigmoid():
            pass
        case _:
            assert_never(function)
    return fields


def _number(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)  # JSON has no infinity
