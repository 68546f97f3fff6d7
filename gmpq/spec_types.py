"""Whether an integer graph holds what its classes declare: types before meaning.

Python calls True an integer and numpy's scalars numbers; files written from them, and programs
compiled from them, would differ. So an ``int`` here is Python's own, within int32, a ``float`` is
Python's own and no NaN, and an array has the declared type of its elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from gmpq.ir import IntGraph, Node, Padding, Value

INT32 = np.iinfo(np.int32)


def check_types(graph: IntGraph) -> None:
    """Pass if all parts of ``graph`` have the types that their classes declare.

    Raises:
        AssertionError: with the place that does not.
    """
    _check("graph.name", graph.name, str)
    _check("graph.inputs", graph.inputs, tuple[str, ...])
    _check("graph.outputs", graph.outputs, tuple[str, ...])
    assert isinstance(graph.values, Mapping), "graph.values: values by name"
    for name, value in graph.values.items():
        _check("graph.values", name, str)
        _check(name, value, Value)
    assert type(graph.nodes) is tuple, "graph.nodes: a tuple of nodes"
    for index, node in enumerate(graph.nodes):
        assert type(node) in get_args(Node), f"node {index}: {type(node).__name__} is no node"
        _check(str(node.name), node, type(node))


def _check(place: str, value: object, declared: Any) -> None:
    assert _holds(place, value, declared), f"{place}: {_shown(value)} is no {_name(declared)}"


def _holds(place: str, value: object, declared: Any) -> bool:
    """Return whether ``value`` is one of ``declared``; what it is made of is checked by place."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        kinds = [kind for kind in arguments if type(value) is (get_origin(kind) or kind)]
        return bool(kinds) and _holds(place, value, kinds[0])
    if origin is tuple:
        return type(value) is tuple and _items_hold(place, value, arguments)
    if origin is np.ndarray:
        wanted = get_args(arguments[1])[0]
        return isinstance(value, np.ndarray) and value.dtype == wanted
    if declared is Padding:
        return type(value) is Padding and _items_hold(place, value, (int, ...))
    if is_dataclass(declared):
        if type(value) is not declared:
            return False
        for field in fields(declared):
            part = getattr(value, field.name)
            _check(f"{place}: {field.name}", part, _hints(declared)[field.name])
        return True
    return _is_plain(value, declared)


def _items_hold(place: str, items: tuple[object, ...], kinds: tuple[Any, ...]) -> bool:
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(items)
    if len(items) != len(kinds):
        return False
    for item, kind in zip(items, kinds, strict=True):
        _check(place, item, kind)
    return True


def _is_plain(value: object, declared: Any) -> bool:
    match value:
        case bool():
            return False
        case int():
            return declared in (int, float) and INT32.min <= value <= INT32.max
        case float():
            return declared is float and type(value) is float and value == value
        case _:
            return type(value) is declared


@cache
def _hints(declared: type) -> dict[str, Any]:
    return get_type_hints(declared)


def _shown(value: object) -> str:
    return f"array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


def _name(declared: Any) -> str:
    if get_origin(declared) is np.ndarray:
        return f"array of {get_args(get_args(declared)[1])[0].__name__}"
    return str(declared) if get_origin(declared) else declared.__name__
