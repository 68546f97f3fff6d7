"""Strict JSON: readers that name the place of every mistake.

Objects keep their members as written until they are read, so that a duplicate key is found with its
place. Every function raises ``JsonError`` for a value that it does not return; readers of files
convert it to their own error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from gmpq.errors import JsonError, closest

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

DEEPEST = 64  # recursive functions read what is loaded
TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
MOST_DIGITS = 300  # floats end at 1e308


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object as written, duplicates included."""

    pairs: list[tuple[str, Parsed]]


Parsed: TypeAlias = "bool | int | float | str | list[Parsed] | JsonObject | None"


def load(text: str) -> Parsed:
    """Return what ``text`` holds: at most 64 levels, and no number beyond the range of floats."""
    _check_depth(text)
    try:
        loaded: Parsed = json.loads(
            text, object_pairs_hook=JsonObject, parse_constant=_no_constant, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise JsonError(f"{place}: not JSON: {error.msg}") from error
    return loaded


def _check_depth(text: str) -> None:
    depth = 0
    for token in TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > DEEPEST:
            line = text.count("\n", 0, token.start()) + 1
            raise JsonError(f"line {line}: nested more than {DEEPEST} levels deep: flatten it")


def members(place: str, value: Parsed, names: Sequence[str]) -> dict[str, Parsed]:
    """Return the members of an object that knows no other keys than ``names``."""
    found = unique(place, value)
    for key in found:
        if key not in names:
            hint = closest(key, names) or f" (known: {', '.join(names)})"
            raise JsonError(f"{place}: unknown key {show(key)}{hint}")
    return found


def unique(place: str, value: Parsed) -> dict[str, Parsed]:
    """Return the members of an object without duplicate keys."""
    if not isinstance(value, JsonObject):
        raise JsonError(f"{place}: must be an object, got {show(value)}: write {{...}}")
    found: dict[str, Parsed] = {}
    for key, item in value.pairs:
        if key in found:
            raise JsonError(f"{place}: key {show(key)} appears twice: keep one")
        found[string(f"{place}: a key", key)] = item
    return found


def require(place: str, found: dict[str, Parsed], *names: str) -> None:
    """Pass members that have all ``names``."""
    for name in names:
        if name not in found:
            raise JsonError(f'{place}: key "{name}" is missing: add it')


def string(place: str, value: Parsed) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise JsonError(f"{place}: must be text, got {show(value)}")
    if HALF_PAIR.search(value):
        raise JsonError(f"{place}: must be Unicode, got {show(value)}: write whole characters")
    return value


def whole(place: str, value: Parsed) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise JsonError(f"{place}: must be a whole number, got {show(value)}")
    return value


def positive(place: str, value: Parsed, most: int | None = None) -> int:
    """Return a whole number of at least 1 and at most ``most``."""
    number = whole(place, value)
    if number < 1:
        raise JsonError(f"{place}: must be at least 1, got {show(number)}")
    if most is not None and number > most:
        raise JsonError(f"{place}: must be at most {most}, got {show(number)}")
    return number


def number(place: str, value: Parsed) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise JsonError(f"{place}: must be a finite number, got {show(value)}")
    return value


def listed(place: str, value: Parsed) -> list[Parsed]:
    """Return a list."""
    if not isinstance(value, list):
        raise JsonError(f"{place}: must be a list, got {show(value)}: write [...]")
    return value


def numbers(place: str, value: Parsed) -> tuple[float, ...]:
    """Return a list of finite numbers, at least one."""
    if not isinstance(value, list) or not value:
        raise JsonError(f"{place}: must be one number per channel, got {show(value)}")
    return tuple(number(place, item) for item in value)


def plain(place: str, value: Parsed) -> JSON:
    """Return any value as plain Python objects, without duplicate keys and infinities."""
    if isinstance(value, JsonObject):
        return {key: plain(place, item) for key, item in unique(place, value).items()}
    if isinstance(value, list):
        return [plain(place, item) for item in value]
    match value:
        case float():
            return number(place, value)
        case str():
            return string(place, value)
        case _:
            return value


def show(value: Parsed) -> str:
    """Return a short text of any value for a message."""
    if isinstance(value, JsonObject):
        return "an object"
    text = json.dumps(value, default=lambda _: "{...}")
    return text if len(text) <= 40 else f"{text[:37]}..."


def _whole(digits: str) -> int:
    if len(digits) <= MOST_DIGITS:
        return int(digits)
    raise JsonError(f"{digits[:20]}...: a number of {len(digits)} digits: write a smaller one")


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON: write a finite number")
