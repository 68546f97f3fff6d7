"""The policy file: JSON to ``Policy`` and back, without loss.

``gmpq/schema/policy-v1.json`` describes the same format for other tools; a test holds the two
together. The checks are written out here because a schema validator cannot name close keys, the
place of a duplicate key, or a cure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from gmpq.errors import OutputError, PolicyError, closest
from gmpq.policy import (
    INTERPOLATIONS,
    JSON,
    VERSION,
    InputSpec,
    LayerBits,
    ModelSpec,
    Policy,
    Provenance,
    check_bits,
)


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object as written, duplicates included."""

    pairs: list[tuple[str, _Parsed]]


_Parsed: TypeAlias = "bool | int | float | str | list[_Parsed] | _Object | None"


def read(path: Path) -> Policy:
    """Return the policy in the file at ``path``.

    Raises:
        PolicyError: the file is missing, not JSON, or not a policy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PolicyError(f"{path}: no such file: give the path of a policy") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: byte {error.start} is not UTF-8: save it as UTF-8") from error
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return parse(text)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


def parse(text: str) -> Policy:
    """Return the policy that ``text`` holds.

    Raises:
        PolicyError: it is not JSON, or not a policy.
    """
    top = _fields("policy", _load(text), ("version", "model", "layers", "default", "provenance"))
    _require("policy", top, "version", "layers")
    version = top["version"]
    if type(version) is not int or version != VERSION:
        raise PolicyError(f"version: got {_show(version)}, this gmpq reads version {VERSION}")
    return Policy(
        layers=_layers(top["layers"]),
        default=_bits("default", top["default"]) if "default" in top else None,
        model=_model(top["model"]) if "model" in top else ModelSpec(),
        provenance=_provenance(top["provenance"]) if "provenance" in top else None,
    )


def write(policy: Policy, path: Path) -> None:
    """Write ``policy`` to ``path``, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(to_text(policy), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def to_text(policy: Policy) -> str:
    """Return the JSON text of ``policy``, one layer per line."""
    layers = [f"    {json.dumps(name)}: {_bits_text(bits)}" for name, bits in policy.layers.items()]
    parts = [f'  "version": {VERSION}']
    if policy.model != ModelSpec():
        parts.append(f'  "model": {json.dumps(_model_fields(policy.model), allow_nan=False)}')
    parts.append('  "layers": {' + ("\n" + ",\n".join(layers) + "\n  " if layers else "") + "}")
    if policy.default is not None:
        parts.append(f'  "default": {_bits_text(policy.default)}')
    if policy.provenance is not None:
        fields = _provenance_fields(policy.provenance)
        parts.append(f'  "provenance": {json.dumps(fields, allow_nan=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


# --- text to objects -----------------------------------------------------------------------------


def _load(text: str) -> _Parsed:
    try:
        loaded: _Parsed = json.loads(text, object_pairs_hook=_Object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise PolicyError(f"{place}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise PolicyError("not a policy: nested too deeply") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise PolicyError(f"not a policy: {error}") from error
    return loaded


def _no_constant(name: str) -> NoReturn:
    raise PolicyError(f"{name} is not JSON: write a finite number")


def _fields(place: str, value: _Parsed, names: Sequence[str]) -> dict[str, _Parsed]:
    fields = _unique(place, value)
    for key in fields:
        if key not in names:
            near = closest(key, names) or f" (known: {', '.join(names)})"
            raise PolicyError(f'{place}: unknown key "{key}"{near}')
    return fields


def _unique(place: str, value: _Parsed) -> dict[str, _Parsed]:
    if not isinstance(value, _Object):
        raise PolicyError(f"{place}: must be an object, got {_show(value)}: write {{...}}")
    fields: dict[str, _Parsed] = {}
    for key, item in value.pairs:
        if key in fields:
            raise PolicyError(f'{place}: key "{key}" appears twice: keep one')
        fields[key] = item
    return fields


def _require(place: str, fields: dict[str, _Parsed], *names: str) -> None:
    for name in names:
        if name not in fields:
            raise PolicyError(f'{place}: key "{name}" is missing: add it')


def _layers(value: _Parsed) -> dict[str, LayerBits]:
    layers = _unique("layers", value)
    return {name: _bits(f'layers."{name}"', bits) for name, bits in layers.items()}


def _bits(place: str, value: _Parsed) -> LayerBits:
    fields = _fields(place, value, ("w", "a"))
    _require(place, fields, "w", "a")
    for key, bits in fields.items():
        try:
            check_bits(key, _plain(place, bits))
        except PolicyError as error:
            raise PolicyError(f"{place}.{error}") from error
    w, a = fields["w"], fields["a"]
    assert isinstance(w, int)
    assert isinstance(a, int)
    return LayerBits(w, a)


def _model(value: _Parsed) -> ModelSpec:
    fields = _fields("model", value, ("arch", "weights", "input"))
    return ModelSpec(
        arch=_text("model.arch", fields["arch"]) if "arch" in fields else None,
        weights=_text("model.weights", fields["weights"]) if "weights" in fields else None,
        input=_input(fields["input"]) if "input" in fields else None,
    )


def _input(value: _Parsed) -> InputSpec:
    place = "model.input"
    fields = _fields(place, value, ("shape", "mean", "std", "resize", "interpolation"))
    spec = InputSpec(
        shape=_shape(fields["shape"]) if "shape" in fields else None,
        mean=_numbers(f"{place}.mean", fields["mean"]) if "mean" in fields else None,
        std=_numbers(f"{place}.std", fields["std"]) if "std" in fields else None,
        resize=_positive(f"{place}.resize", fields["resize"]) if "resize" in fields else None,
        interpolation=_interpolation(fields["interpolation"])
        if "interpolation" in fields
        else None,
    )
    for step in spec.std or ():
        if not step > 0:
            raise PolicyError(f"{place}.std: must be positive, got {step}")
    return spec


def _shape(value: _Parsed) -> tuple[int, int, int, int]:
    place = "model.input.shape"
    if not isinstance(value, list) or len(value) != 4:
        raise PolicyError(f"{place}: must be [N, C, H, W], got {_show(value)}")
    n, c, h, w = (_positive(place, item) for item in value)
    return n, c, h, w


def _interpolation(value: _Parsed) -> str:
    name = _text("model.input.interpolation", value)
    if name not in INTERPOLATIONS:
        raise PolicyError(
            f'model.input.interpolation: unknown "{name}": use {" or ".join(INTERPOLATIONS)}'
        )
    return name


def _provenance(value: _Parsed) -> Provenance:
    place = "provenance"
    fields = _fields(place, value, ("method", "dataset", "constraint", "seed", "details"))
    return Provenance(
        method=_text(f"{place}.method", fields["method"]) if "method" in fields else None,
        dataset=_text(f"{place}.dataset", fields["dataset"]) if "dataset" in fields else None,
        constraint=_constraint(fields["constraint"]) if "constraint" in fields else None,
        seed=_whole(f"{place}.seed", fields["seed"]) if "seed" in fields else None,
        details=_details(fields["details"]) if "details" in fields else None,
    )


def _constraint(value: _Parsed) -> dict[str, float]:
    place = "provenance.constraint"
    items = _unique(place, value).items()
    return {name: _number(f"{place}.{name}", item) for name, item in items}


def _details(value: _Parsed) -> dict[str, JSON]:
    place = "provenance.details"
    return {key: _plain(f"{place}.{key}", item) for key, item in _unique(place, value).items()}


def _text(place: str, value: _Parsed) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"{place}: must be text, got {_show(value)}")
    return value


def _whole(place: str, value: _Parsed) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{place}: must be a whole number, got {_show(value)}")
    return value


def _positive(place: str, value: _Parsed) -> int:
    number = _whole(place, value)
    if number < 1:
        raise PolicyError(f"{place}: must be at least 1, got {number}")
    return number


def _number(place: str, value: _Parsed) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise PolicyError(f"{place}: must be a finite number, got {_show(value)}")
    return value


def _numbers(place: str, value: _Parsed) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise PolicyError(f"{place}: must be one number per channel, got {_show(value)}")
    return tuple(_number(place, item) for item in value)


def _plain(place: str, value: _Parsed) -> JSON:
    if isinstance(value, _Object):
        return {key: _plain(place, item) for key, item in _unique(place, value).items()}
    if isinstance(value, list):
        return [_plain(place, item) for item in value]
    return _number(place, value) if isinstance(value, float) else value


def _show(value: _Parsed) -> str:
    if isinstance(value, _Object):
        return "an object"
    text = json.dumps(value, default=lambda _: "{...}")
    return text if len(text) <= 40 else f"{text[:37]}..."


# --- objects to text -----------------------------------------------------------------------------


def _bits_text(bits: LayerBits) -> str:
    return f'{{"w": {bits.w}, "a": {bits.a}}}'


def _model_fields(model: ModelSpec) -> dict[str, JSON]:
    spec = model.input
    fields: dict[str, JSON] = {"arch": model.arch, "weights": model.weights}
    if spec is not None:
        fields["input"] = _given(
            {
                "shape": None if spec.shape is None else list(spec.shape),
                "mean": None if spec.mean is None else list(spec.mean),
                "std": None if spec.std is None else list(spec.std),
                "resize": spec.resize,
                "interpolation": spec.interpolation,
            }
        )
    return _given(fields)


def _provenance_fields(provenance: Provenance) -> dict[str, JSON]:
    constraint, details = provenance.constraint, provenance.details
    return _given(
        {
            "method": provenance.method,
            "dataset": provenance.dataset,
            "constraint": None if constraint is None else dict(constraint),
            "seed": provenance.seed,
            "details": None if details is None else dict(details),
        }
    )


def _given(fields: dict[str, JSON]) -> dict[str, JSON]:
    return {key: value for key, value in fields.items() if value is not None}
