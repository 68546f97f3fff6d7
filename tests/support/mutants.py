"""Documents that are damaged in one place: what a disk, an editor or an attacker makes of them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any, TypeAlias

Json: TypeAlias = Any
Place: TypeAlias = tuple[Any, Any]  # an object or list, and a key or position in it

BIG = 2**31
STRANGE: tuple[Json, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 256, BIG, BIG - 1, -BIG, 2**63, 10**30, 10**299),
    *(0.5, -0.0, 1e-45, 1e-30, 1e30, 1e300, float("nan"), float("inf")),
    *("", "a", "0", "../x", "\x00", "\ud800", "x" * 3000, "\x1b[31m"),
    *([], {}, [[]], [{}], [None], {"a": None}, [1, 2, 3, 4], [0] * 50),
)


def places(document: Json) -> Iterator[Place]:
    """Yield all places inside of a document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield document, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def mutant(document: Json, rng: random.Random) -> Json:
    """Return a copy of an object or list in which one place is changed."""
    changed = copy.deepcopy(document)
    parent, key = rng.choice(list(places(changed)))
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1:
            other, name = rng.choice(list(places(changed)))
            parent[key] = copy.deepcopy(other[name])
        case 2 if isinstance(parent, dict):
            parent[rng.choice(("extra", "", key + "x"))] = parent.pop(key)
        case 2 | 3 if isinstance(parent[key], int | float):
            parent[key] += rng.choice((1, -1, 0.5, BIG, 1e-3))
        case _:
            parent[key] = copy.deepcopy(rng.choice(STRANGE))
    return changed


def torn(content: bytes, rng: random.Random) -> bytes:
    """Return bytes of which some are lost, changed, or added."""
    position = rng.randrange(len(content) + 1)
    match rng.randrange(4):
        case 0:
            return content[:position]
        case 1:
            return content[:position] + rng.randbytes(rng.randrange(1, 9)) + content[position:]
        case 2:
            return content[:position] + content[position + rng.randrange(1, 200) :]
        case _:
            return content[:position] + rng.randbytes(4) + content[position + 4 :]
