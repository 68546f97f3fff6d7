"""Strict JSON: readers that name the place of every mistake, for the policy file.

Objects keep their members as written until they are read, so that a duplicate key is found with its
place. Every function raises ``PolicyError`` for a value that it does not return.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from gmpq.errors import PolicyError, closest
from gmpq.policy import JSON


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object as written, duplicates included."""

    pairs: list[tuple[str, Parsed]]


Parsed: TypeAlias = "bool | int | float | str | list[Parsed] | JsonObject | None"


def load(text: str) -> Parsed:
    """Return what ``text`` holds."""
    try:
        loaded: Parsed = json.loads(text, object_pairs_hook=JsonObject, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise PolicyError(f"{place}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise PolicyError("not a policy: nested too deeply") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise PolicyError(f"not a policy: {error}") from error
    return loaded


def members(place: str, value: Parsed, names: Sequence[str]) -> dict[str, Parsed]:
    """Return the members of an object that knows no other keys than ``names``."""
    found = unique(place, value)
    for key in found:
        if key not in names:
            near = closest(key, names) or f" (known: {', '.join(names)})"
            raise PolicyError(f'{place}: unknown key "{key}"{near}')
    return found


def unique(place: str, value: Parsed) -> dict[str, Parsed]:
    """Return the members of an object without duplicate keys."""
    if not isinstance(value, JsonObject):
        raise PolicyError(f"{place}: must be an object, got {show(value)}: write {{...}}")
    found: dict[str, Parsed] = {}
    for key, item in value.pairs:
        if key in found:
            raise PolicyError(f'{place}: key "{key}" appears twice: keep one')
        found[key] = item
    return found


def require(place: str, found: dict[str, Parsed], *names: str) -> None:
    """Pass members that have all ``names``."""
    for name in names:
        if name not in found:
            raise PolicyError(f'{place}: key "{name}" is missing: add it')


def string(place: str, value: Parsed) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise PolicyError(f"{place}: must be text, got {show(value)}")
    return value


def whole(place: str, value: Parsed) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{place}: must be a whole number, got {show(value)}")
    return value


def positive(place: str, value: Parsed) -> int:
    """Return a whole number of at least 1."""
    number = whole(place, value)
    if number < 1:
        raise PolicyError(f"{place}: must be at least 1, got {number}")
    return number


def number(place: str, value: Parsed) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise PolicyError(f"{place}: must be a finite number, got {show(value)}")
    return value


def numbers(place: str, value: Parsed) -> tuple[float, ...]:
    """Return a list of finite numbers, at least one."""
    if not isinstance(value, list) or not value:
        raise PolicyError(f"{place}: must be one number per channel, got {show(value)}")
    return tuple(number(place, item) for item in value)


def plain(place: str, value: Parsed) -> JSON:
    """Return any value as plain Python objects, without duplicate keys and infinities."""
    if isinstance(value, JsonObject):
        return {key: plain(place, item) for key, item in unique(place, value).items()}
    if isinstance(value, list):
        return [plain(place, item) for item in value]
    return number(place, value) if isinstance(value, float) else value


def show(value: Parsed) -> str:
    """Return a short text of any value for a message."""
    if isinstance(value, JsonObject):
        return "an object"
    text = json.dumps(value, default=lambda _: "{...}")
    return text if len(text) <= 40 else f"{text[:37]}..."


def _no_constant(name: str) -> NoReturn:
    raise PolicyError(f"{name} is not JSON: write a finite number")
