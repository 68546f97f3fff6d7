"""The policy file: JSON to ``Policy`` and back, without loss.

``gmpq/policy/policy-v1.json`` describes the same format for other tools; a test holds the two
together. The checks are written out here because a schema validator cannot name close keys, the
place of a duplicate key, or a cure.
"""

from __future__ import annotations

import json
from pathlib import Path

from gmpq.errors import JsonError, PolicyError
from gmpq.files import atomic
from gmpq.files.locations import refuse_models
from gmpq.files.strict_json import (
    JSON,
    Parsed,
    listed,
    load,
    members,
    number,
    numbers,
    plain,
    positive,
    require,
    show,
    string,
    unique,
    whole,
)
from gmpq.files.untrusted import read_text
from gmpq.policy.policy import (
    INTERPOLATIONS,
    VERSION,
    CalibrationSpec,
    InputSpec,
    LayerBits,
    ModelSpec,
    Policy,
    Provenance,
    check_bits,
)

MOST_SIDE, MOST_RESIZE = 1 << 16, 1 << 13  # a square of the latter takes 200 MB


def read(path: Path) -> Policy:
    """Return the policy in the file at ``path``.

    Raises:
        PolicyError: the file is missing, not JSON, or not a policy.
    """
    refuse_models(path)
    text = read_text(path, PolicyError)
    try:
        return parse(text)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


def parse(text: str) -> Policy:
    """Return the policy that ``text`` holds.

    Raises:
        PolicyError: it is not JSON, or not a policy.
    """
    try:
        return _parse(text)
    except JsonError as error:
        raise PolicyError(str(error)) from error


def _parse(text: str) -> Policy:
    keys = ("version", "model", "calibration", "layers", "default", "output", "provenance")
    top = members("policy", load(text), keys)
    require("policy", top, "version", "layers")
    version = top["version"]
    if type(version) is not int or version != VERSION:
        raise PolicyError(f"version: got {show(version)}, this gmpq reads version {VERSION}")
    return Policy(
        layers=_layers(top["layers"]),
        default=_bits("default", top["default"]) if "default" in top else None,
        output_bits=_output_bits(top["output"]) if "output" in top else None,
        model=_model(top["model"]) if "model" in top else ModelSpec(),
        provenance=_provenance(top["provenance"]) if "provenance" in top else None,
        calibration=_calibration(top["calibration"]) if "calibration" in top else None,
    )


def write(policy: Policy, path: Path) -> None:
    """Write ``policy`` to ``path``, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    atomic.write_text(path, to_text(policy))


def to_text(policy: Policy) -> str:
    """Return the JSON text of ``policy``, one layer per line."""
    calibration = policy.calibration
    layers = [f"    {json.dumps(name)}: {_bits_text(bits)}" for name, bits in policy.layers.items()]
    parts = [f'  "version": {VERSION}']
    if policy.model != ModelSpec():
        parts.append(f'  "model": {json.dumps(_model_fields(policy.model), allow_nan=False)}')
    if calibration is not None:
        parts.append(f'  "calibration": {json.dumps(_calibration_fields(calibration))}')
    parts.append('  "layers": {' + ("\n" + ",\n".join(layers) + "\n  " if layers else "") + "}")
    if policy.default is not None:
        parts.append(f'  "default": {_bits_text(policy.default)}')
    if policy.output_bits is not None:
        parts.append(f'  "output": {{"bits": {policy.output_bits}}}')
    if policy.provenance is not None:
        fields = _provenance_fields(policy.provenance)
        parts.append(f'  "provenance": {json.dumps(fields, allow_nan=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


# --- text to objects -----------------------------------------------------------------------------


def _layers(value: Parsed) -> dict[str, LayerBits]:
    layers = unique("layers", value)
    return {name: _bits(f'layers."{name}"', bits) for name, bits in layers.items()}


def _bits(place: str, value: Parsed) -> LayerBits:
    fields = members(place, value, ("w", "a"))
    require(place, fields, "w", "a")
    for key, bits in fields.items():
        try:
            check_bits(key, plain(place, bits))
        except PolicyError as error:
            raise PolicyError(f"{place}.{error}") from error
    w, a = fields["w"], fields["a"]
    assert isinstance(w, int)
    assert isinstance(a, int)
    return LayerBits(w, a)


def _output_bits(value: Parsed) -> int:
    fields = members("output", value, ("bits",))
    require("output", fields, "bits")
    bits = plain("output.bits", fields["bits"])
    check_bits("output.bits", bits)
    assert isinstance(bits, int)
    return bits


def _model(value: Parsed) -> ModelSpec:
    fields = members("model", value, ("arch", "weights", "input", "quantized"))
    return ModelSpec(
        arch=string("model.arch", fields["arch"]) if "arch" in fields else None,
        weights=string("model.weights", fields["weights"]) if "weights" in fields else None,
        input=_input(fields["input"]) if "input" in fields else None,
        quantized=string("model.quantized", fields["quantized"]) if "quantized" in fields else None,
    )


def _input(value: Parsed) -> InputSpec:
    place = "model.input"
    fields = members(place, value, ("shape", "mean", "std", "resize", "interpolation"))
    spec = InputSpec(
        shape=_shape(fields["shape"]) if "shape" in fields else None,
        mean=numbers(f"{place}.mean", fields["mean"]) if "mean" in fields else None,
        std=numbers(f"{place}.std", fields["std"]) if "std" in fields else None,
        resize=positive(f"{place}.resize", fields["resize"], MOST_RESIZE)
        if "resize" in fields
        else None,
        interpolation=_interpolation(fields["interpolation"])
        if "interpolation" in fields
        else None,
    )
    for step in spec.std or ():
        if not step > 0:
            raise PolicyError(f"{place}.std: must be positive, got {step}")
    return spec


def _shape(value: Parsed) -> tuple[int, int, int, int]:
    place = "model.input.shape"
    if not isinstance(value, list) or len(value) != 4:
        raise PolicyError(f"{place}: must be [N, C, H, W], got {show(value)}")
    n, c, h, w = (positive(place, item, MOST_SIDE) for item in value)
    return n, c, h, w


def _calibration(value: Parsed) -> CalibrationSpec:
    place = "calibration"
    if isinstance(value, list):
        return CalibrationSpec(_locations(place, value))
    fields = members(place, value, ("images", "limit"))
    require(place, fields, "images")
    limit = positive(f"{place}.limit", fields["limit"]) if "limit" in fields else None
    return CalibrationSpec(_locations(f"{place}.images", fields["images"]), limit)


def _locations(place: str, value: Parsed) -> tuple[str, ...]:
    found = tuple(string(place, item) for item in listed(place, value))
    if not all(found) or not found:
        raise PolicyError(f'{place}: names no images: list folders or arrays, as ["photographs/"]')
    return found


def _interpolation(value: Parsed) -> str:
    name = string("model.input.interpolation", value)
    if name not in INTERPOLATIONS:
        raise PolicyError(
            f'model.input.interpolation: unknown "{name}": use {" or ".join(INTERPOLATIONS)}'
        )
    return name


def _provenance(value: Parsed) -> Provenance:
    place = "provenance"
    fields = members(place, value, ("method", "dataset", "constraint", "seed", "details"))
    return Provenance(
        method=string(f"{place}.method", fields["method"]) if "method" in fields else None,
        dataset=string(f"{place}.dataset", fields["dataset"]) if "dataset" in fields else None,
        constraint=_constraint(fields["constraint"]) if "constraint" in fields else None,
        seed=whole(f"{place}.seed", fields["seed"]) if "seed" in fields else None,
        details=_details(fields["details"]) if "details" in fields else None,
    )


def _constraint(value: Parsed) -> dict[str, float]:
    place = "provenance.constraint"
    items = unique(place, value).items()
    return {name: number(f"{place}.{name}", item) for name, item in items}


def _details(value: Parsed) -> dict[str, JSON]:
    place = "provenance.details"
    return {key: plain(f"{place}.{key}", item) for key, item in unique(place, value).items()}


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
    fields["quantized"] = model.quantized
    return _given(fields)


def _calibration_fields(calibration: CalibrationSpec) -> JSON:
    images: list[JSON] = list(calibration.images)
    return images if calibration.limit is None else {"images": images, "limit": calibration.limit}


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
