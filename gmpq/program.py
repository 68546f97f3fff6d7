"""A compiled network as data: what ``manifest.json`` holds under ``tvm``, and what runs read.

Sizes and offsets become addresses, so ``Program.from_json`` checks all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREFIX = "gmpq"  # of the functions in C by default
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # what a prefix may be
LARGEST = 1 << 40  # of all sizes and offsets
FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or an output of a network: an array of this shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str = FLOAT32

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the tensor."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}

    @classmethod
    def from_json(cls, value: object) -> TensorSpec:
        """Return the tensor that ``value`` describes; raises ``ValueError``."""
        fields = _object(value, "input or output")
        return cls(_text(fields, "name"), _wholes(fields, "shape"))


@dataclass(frozen=True, slots=True)
class StoredValue:
    """Codes in the workspace: strides and the offset of the first element, in bytes."""

    name: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span_bytes(self) -> int:
        """The bytes from the first element to the last one, both included."""
        sides = zip(self.shape, self.strides, strict=True)
        return 1 + sum((side - 1) * stride for side, stride in sides)

    def codes(self, span: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a copy of the codes, in ``shape``.

        ``span`` [n] begins with the first element and has at least ``span_bytes``.
        """
        return np.lib.stride_tricks.as_strided(span, self.shape, self.strides).copy()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the value."""
        place = {"offset": self.offset, "shape": list(self.shape), "strides": list(self.strides)}
        return {"name": self.name, **place}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], workspace_bytes: int) -> StoredValue:
        """Return the value that ``fields`` describe; raises ``ValueError``."""
        offset, shape = _whole(fields, "offset"), _wholes(fields, "shape")
        found = cls(_text(fields, "name"), offset, shape, _wholes(fields, "strides"))
        if len(found.strides) != len(shape):
            raise ValueError(f"{found.name!r}: {len(found.strides)} strides of {len(shape)} axes")
        if 0 in shape or offset + found.span_bytes > workspace_bytes:
            raise ValueError(f"{found.name!r} lies outside of the workspace")
        return found


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """One layer of the program: ``node`` computed by ``kernel`` writes ``outputs``.

    ``stored`` are those of the outputs that remain in the workspace as codes.
    """

    node: str
    kernel: str
    outputs: tuple[str, ...]
    stored: tuple[StoredValue, ...] = ()
    moved_bytes: int = 0  # values and constants that are read and written
    executed_macs: int | None = None  # None where nothing is multiplied
    instruction: str = ""  # that multiplies and adds; empty where LLVM chooses it

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the step."""
        places = {value.name: value.to_json() for value in self.stored}
        multiplied = {"products": self.executed_macs, "instruction": self.instruction}
        return {
            "node": self.node,
            "kernel": self.kernel,
            "outputs": [places.get(name, {"name": name}) for name in self.outputs],
            "moved_bytes": self.moved_bytes,
            **({} if self.executed_macs is None else multiplied),
        }

    @classmethod
    def from_json(cls, value: object, workspace_bytes: int) -> ProgramStep:
        """Return the step that ``value`` describes; raises ``ValueError``."""
        fields = _object(value, "step")
        outputs = [_object(each, "output") for each in _list(fields, "outputs")]
        return cls(
            node=_text(fields, "node"),
            kernel=_text(fields, "kernel"),
            outputs=tuple(_text(output, "name") for output in outputs),
            stored=tuple(
                StoredValue.from_json(output, workspace_bytes)
                for output in outputs
                if "offset" in output
            ),
            moved_bytes=_whole({"moved_bytes": 0, **fields}, "moved_bytes"),
            executed_macs=_whole(fields, "products") if "products" in fields else None,
            instruction=_text({"instruction": "", **fields}, "instruction"),
        )


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled network: inputs and outputs, memory, and steps in execution order."""

    target: str
    params_bytes: int
    workspace_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[ProgramStep, ...]
    prefix: str = PREFIX  # of its functions
    features: tuple[str, ...] = ()  # instruction sets, by LLVM's names; empty if unknown
    live_bytes: int = 0  # the largest set of values that are alive at one step
    stack_bytes: int = 0  # of each thread
    moved_bytes: int = 0  # of all steps
    glibc: str | None = None  # the oldest that loads the library; None if it needs none

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the program."""
        return {
            "target": self.target,
            "features": list(self.features),
            "prefix": self.prefix,
            "params_bytes": self.params_bytes,
            "workspace_bytes": self.workspace_bytes,
            "live_bytes": self.live_bytes,
            "stack_bytes": self.stack_bytes,
            "moved_bytes": self.moved_bytes,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "steps": [step.to_json() for step in self.steps],
            "glibc": self.glibc,
        }

    @classmethod
    def from_json(cls, value: object) -> Program:
        """Return the program that ``value``, which JSON held, describes.

        Raises:
            ValueError: something is missing, of another type, or outside of the workspace.
        """
        fields = {**DEFAULTS, **_object(value, "tvm")}
        size = _whole(fields, "workspace_bytes")
        return cls(
            target=_text(fields, "target"),
            params_bytes=_whole(fields, "params_bytes"),
            workspace_bytes=size,
            inputs=tuple(TensorSpec.from_json(each) for each in _list(fields, "inputs")),
            outputs=tuple(TensorSpec.from_json(each) for each in _list(fields, "outputs")),
            steps=tuple(ProgramStep.from_json(each, size) for each in _list(fields, "steps")),
            prefix=_prefix(fields["prefix"]),
            features=tuple(str(name) for name in _list(fields, "features")),
            live_bytes=_whole(fields, "live_bytes"),
            stack_bytes=_whole(fields, "stack_bytes"),
            moved_bytes=_whole(fields, "moved_bytes"),
            glibc=None if fields["glibc"] is None else _text(fields, "glibc"),
        )


DEFAULTS: Mapping[str, Any] = {  # of members that older manifests lack
    "prefix": PREFIX,
    "features": [],
    "live_bytes": 0,
    "stack_bytes": 0,
    "moved_bytes": 0,
    "glibc": None,
}


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise ValueError(f"'prefix' must begin the name of a C function, not {value!r:.40}")
    return value


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
