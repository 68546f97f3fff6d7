"""JSON as frozen dataclasses, by the types that they declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from gmpq.errors import GmpqError, JsonError
from gmpq.files.strict_json import (
    Parsed,
    listed,
    load,
    number,
    plain,
    require,
    show,
    string,
    unique,
    whole,
)
from gmpq.files.untrusted import read_text

T = TypeVar("T")


def read(path: Path, declared: type[T], refuse: Callable[[str], GmpqError]) -> T:
    """Return what the JSON file at ``path`` holds.

    Raises:
        GmpqError: made by ``refuse``: the file cannot be read, or holds something else.
    """
    text = read_text(path, refuse)
    try:
        return typed("file", load(text), declared)
    except JsonError as error:
        raise refuse(f"{path}: damaged: {error}") from error


def typed(place: str, value: Parsed, declared: type[T]) -> T:
    """Return ``value`` as a ``declared``: a dataclass, and what its fields are made of.

    Objects may have members that no field is named after; fields with defaults may be missing.

    Raises:
        JsonError: it is something else.
    """
    made: T = _made(place, value, declared)
    return made


def _made(place: str, value: Parsed, declared: Any) -> Any:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        (kind,) = (each for each in arguments if each is not NoneType)
        return None if value is None else _made(place, value, kind)
    if origin is tuple:
        return tuple(
            _made(f"{place}[{index}]", item, arguments[0])
            for index, item in enumerate(listed(place, value))
        )
    if origin is Mapping:
        return {
            key: _made(f"{place}.{key}", item, arguments[1])
            for key, item in unique(place, value).items()
        }
    if is_dataclass(declared):
        return _object(place, unique(place, value), declared)
    return _plain(place, value, declared)


def _object(place: str, found: dict[str, Parsed], declared: Any) -> Any:
    known = fields(declared)
    needed = [f for f in known if f.default is MISSING and f.default_factory is MISSING]
    require(place, found, *(field.name for field in needed))
    hints = _hints(declared)
    return declared(
        **{
            field.name: _made(f"{place}.{field.name}", found[field.name], hints[field.name])
            for field in known
            if field.name in found
        }
    )


def _plain(place: str, value: Parsed, declared: Any) -> Any:
    if declared is Any:
        return plain(place, value)
    if declared is float:
        return float(number(place, value))
    if declared is int:
        return whole(place, value)
    if declared is str:
        return string(place, value)
    assert declared is bool, f"{declared} has no form in JSON"
    if not isinstance(value, bool):
        raise JsonError(f"{place}: must be true or false, got {show(value)}")
    return value


@cache
def _hints(declared: type) -> dict[str, Any]:
    return get_type_hints(declared)
