"""An integer graph as one safetensors file: structure as JSON in its header, arrays as tensors.

The file holds numbers and names only, so reading it runs no code. ``FORMAT`` counts its versions:

- 1: first version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as dump

from gmpq import spec, strict_json
from gmpq.errors import JsonError, OutputError
from gmpq.ir import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dequantize,
    Function,
    GlobalAvgPool,
    Graph,
    HardSwish,
    IntGraph,
    LeakyRelu,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    Padding,
    PRelu,
    QParams,
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
from gmpq.strict_json import (
    Parsed,
    listed,
    members,
    number,
    require,
    show,
    string,
    unique,
    whole,
)
from gmpq.untrusted import require_file

FORMAT = 1
HEADER = "gmpq_graph"

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
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
        graph = _graph(strict_json.load(header), arrays)
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


# --- from fields ---------------------------------------------------------------------------------


def _graph(header: Parsed, arrays: Arrays) -> IntGraph:
    fields = unique("graph", header)
    if fields.get("format") != FORMAT:
        raise JsonError(f"format {show(fields.get('format'))} is not {FORMAT}")
    require("graph", fields, "name", "inputs", "outputs", "values", "nodes")
    values = [_value(value) for value in listed("values", fields["values"])]
    if len({value.name for value in values}) < len(values):
        raise JsonError("values: two have one name")
    return Graph(
        string("name", fields["name"]),
        _names("inputs", fields["inputs"]),
        _names("outputs", fields["outputs"]),
        {value.name: value for value in values},
        tuple(_node(node, arrays) for node in listed("nodes", fields["nodes"])),
    )


def _value(found: Parsed) -> Value:
    fields = members("a value", found, ("name", "shape", "q"))
    require("a value", fields, "name", "shape")
    name = string("a value", fields["name"])
    shape = tuple(whole(name, side) for side in listed(name, fields["shape"]))
    return Value(name, shape, _qparams(name, fields["q"]) if "q" in fields else None)


def _qparams(name: str, found: Parsed) -> QParams:
    scale, *others = _some(name, found, 5)
    return QParams(float(number(name, scale)), *(whole(name, item) for item in others))


def _node(found: Parsed, arrays: Arrays) -> Node:
    fields = unique("a node", found)
    require("a node", fields, "kind", "name", "inputs", "output")
    name, kind = string("a node", fields["name"]), string("a node", fields["kind"])
    require(name, fields, *MORE.get(kind, ()))
    common = (name, _names(name, fields["inputs"]), string(name, fields["output"]))
    match kind:
        case "Conv2d":
            window = _window(name, fields["window"])
            weight = _weight(name, fields["bits"], arrays)
            return Conv2d(*common, weight, window, whole(name, fields["groups"]))
        case "Linear":
            return Linear(*common, _weight(name, fields["bits"], arrays))
        case "Lookup":
            function = _function(name, fields["function"], arrays)
            return Lookup(*common, _array(arrays, name, "table"), function)
        case "MaxPool":
            return MaxPool(*common, _window(name, fields["window"]))
        case "AvgPool":
            window, counted = _window(name, fields["window"]), _wholes(name, fields["counted"], 4)
            return AvgPool(*common, window, Padding(*counted))
        case "Pad":
            return Pad(*common, Padding(*_wholes(name, fields["padding"], 4)))
        case "Upsample":
            return Upsample(*common, _wholes(name, fields["factors"], 2))
        case _ if kind in PLAIN:
            return PLAIN[kind](*common)
        case _:
            raise JsonError(f"{name}: unknown kind {show(kind)}")


MORE = {
    "Conv2d": ("window", "groups", "bits"),
    "Linear": ("bits",),
    "Lookup": ("function",),
    "MaxPool": ("window",),
    "AvgPool": ("window", "counted"),
    "Pad": ("padding",),
    "Upsample": ("factors",),
}
PLAIN = {
    kind.__name__: kind
    for kind in (
        *(Quantize, Dequantize, Requantize, Add, Multiply),
        *(Concat, GlobalAvgPool, Reshape, Softmax),
    )
}


def _weight(name: str, bits: Parsed, arrays: Arrays) -> QWeight:
    codes, scale, bias = (_array(arrays, name, key) for key in ("codes", "scale", "bias"))
    return QWeight(codes, scale, bias, whole(name, bits))


def _array(arrays: Arrays, name: str, key: str) -> NDArray[Any]:
    if f"{name}/{key}" not in arrays:
        raise JsonError(f"{name}: its {key} are missing")
    return arrays[f"{name}/{key}"]


def _window(name: str, found: Parsed) -> Window:
    fields = members(name, found, ("kernel", "stride", "padding", "dilation"))
    require(name, fields, "kernel", "stride", "padding", "dilation")
    return Window(
        _wholes(name, fields["kernel"], 2),
        _wholes(name, fields["stride"], 2),
        Padding(*_wholes(name, fields["padding"], 4)),
        _wholes(name, fields["dilation"], 2),
    )


def _function(name: str, found: Parsed, arrays: Arrays) -> Function:
    fields = unique(name, found)
    require(name, fields, "kind")
    kind = string(name, fields["kind"])
    require(name, fields, *{"Clamp": ("low", "high"), "LeakyRelu": ("slope",)}.get(kind, ()))
    match kind:
        case "Clamp":
            return Clamp(_real(name, fields["low"]), _real(name, fields["high"]))
        case "LeakyRelu":
            return LeakyRelu(_real(name, fields["slope"]))
        case "PRelu":
            return PRelu(_array(arrays, name, "slopes"))
        case "Silu":
            return Silu()
        case "HardSwish":
            return HardSwish()
        case "Sigmoid":
            return Sigmoid()
        case _:
            raise JsonError(f"{name}: unknown function {show(kind)}")


def _real(name: str, found: Parsed) -> float:
    """Return a number, which JSON has no infinity for."""
    return float(found) if found in ("inf", "-inf") else float(number(name, found))


def _names(place: str, found: Parsed) -> tuple[Any, ...]:
    return tuple(string(place, item) for item in listed(place, found))


def _wholes(place: str, found: Parsed, count: int) -> tuple[Any, ...]:
    return tuple(whole(place, item) for item in _some(place, found, count))


def _some(place: str, found: Parsed, count: int) -> list[Parsed]:
    items = listed(place, found)
    if len(items) != count:
        raise JsonError(f"{place}: must be {count} numbers, got {show(found)}")
    return items
