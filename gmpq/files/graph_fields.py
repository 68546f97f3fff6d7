"""An integer graph from the fields of its file, whose types are checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray

from gmpq.errors import JsonError
from gmpq.files.strict_json import (
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

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def read_graph(version: int, header: Parsed, arrays: Arrays) -> IntGraph:
    """Return the graph in ``header`` of format ``version``.

    ``arrays`` are named by node and field: of a layer the ``codes`` int8 [O, ...], the ``scale``
    float32 [O] and the ``bias`` int32 [O]; of a lookup the ``table`` uint8 [256] or [C, 256] and,
    for a PRelu, the ``slopes`` float32 [C]. Whether they fit the graph is for ``gmpq.spec`` to say.

    Raises:
        JsonError: there is none, it is of another version, or a field or an array is missing.
    """
    fields = unique("graph", header)
    if fields.get("format") != version:
        raise JsonError(f"format {show(fields.get('format'))} is not {version}")
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
    require(name, fields, *REQUIRED.get(kind, ()))
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


REQUIRED = {
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
