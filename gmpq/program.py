"""What ``manifest.json`` tells about a compiled network, checked before anything runs by it.

Sizes and places in it become addresses: a damaged one must not pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "gmpq"  # of the functions in C unless another one is told
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # what a prefix may be
LARGEST = 1 << 40  # of all sizes and places


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or an output of a network: an array of this shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of the program: ``node`` computed by ``kernel`` writes ``outputs``."""

    node: str
    kernel: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """A compiled network: its ends, its memory, its steps."""

    target: str
    prefix: str  # of its functions
    features: tuple[str, ...]  # instruction sets, by LLVM's names; empty where they are not told
    params_bytes: int
    workspace_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]
    codes: tuple[Mapping[str, Mapping[str, Any]], ...]  # by step and name: offset, shape, strides


def parse(program: object) -> Description:
    """Return the description that ``program`` holds, as JSON values.

    Raises:
        ValueError: Something is missing, of another type, or outside of the workspace.
    """
    fields = _object(program, "tvm")
    size = _whole(fields, "workspace_bytes")
    steps = [_object(step, "step") for step in _list(fields, "steps")]
    outputs = [[_object(each, "output") for each in _list(step, "outputs")] for step in steps]
    return Description(
        target=_text(fields, "target"),
        prefix=_prefix(fields.get("prefix", PREFIX)),
        features=tuple(str(name) for name in _list({"features": [], **fields}, "features")),
        params_bytes=_whole(fields, "params_bytes"),
        workspace_bytes=size,
        inputs=tuple(_tensor(end) for end in _list(fields, "inputs")),
        outputs=tuple(_tensor(end) for end in _list(fields, "outputs")),
        steps=tuple(
            Step(
                _text(step, "node"), _text(step, "kernel"), tuple(_text(o, "name") for o in written)
            )
            for step, written in zip(steps, outputs, strict=True)
        ),
        codes=tuple(
            {_text(o, "name"): _codes(o, size) for o in written if "offset" in o}
            for written in outputs
        ),
    )


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise ValueError(f"'prefix' must begin the name of a C function, not {value!r:.40}")
    return value


def _tensor(end: object) -> TensorSpec:
    fields = _object(end, "input or output")
    return TensorSpec(_text(fields, "name"), _wholes(fields, "shape"))


def _codes(output: Mapping[str, Any], size: int) -> Mapping[str, Any]:
    """Return where codes lie, if that is inside of a workspace of ``size`` bytes."""
    offset, shape = _whole(output, "offset"), _wholes(output, "shape")
    strides = _wholes(output, "strides")
    if len(strides) != len(shape):
        raise ValueError(f"{output['name']!r}: {len(strides)} strides of {len(shape)} axes")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= size:
        raise ValueError(f"{output['name']!r} lies outside of the workspace")
    return {"offset": offset, "shape": shape, "strides": strides}


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be an object")  # noqa: TRY004 - of a file, not a caller
    return value


def _member(fields: Mapping[str, Any], key: str) -> Any:
    if key not in fields:
        raise ValueError(f"{key!r} is missing")
    return fields[key]


def _list(fields: Mapping[str, Any], key: str) -> list[Any]:
    value = _member(fields, key)
    if not isinstance(value, list):
        raise ValueError(f"{key!r} must be a list")  # noqa: TRY004 - as above
    return value


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = _member(fields, key)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be text")  # noqa: TRY004 - as above
    return value


def _whole(fields: Mapping[str, Any], key: str) -> int:
    return _count(_member(fields, key), key)


def _wholes(fields: Mapping[str, Any], key: str) -> tuple[int, ...]:
    return tuple(_count(value, key) for value in _list(fields, key))


def _count(value: object, key: str) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{key!r} must hold whole numbers from 0 to 2**40, not {value!r:.40}")
    return value
