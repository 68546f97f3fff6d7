"""The policy: bits of weights and input activations per layer, and the network they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gmpq.errors import PolicyError, closest
from gmpq.files.locations import seen_from
from gmpq.files.strict_json import JSON

VERSION = 1
LATER_CALL = re.compile(r":\d+$")
MOST_BITS = 8


@dataclass(frozen=True, slots=True)
class LayerBits:
    """Bits of a layer's weight and of its input activation, 1 to 8."""

    w: int
    a: int

    def __post_init__(self) -> None:
        """Refuse bits that no target holds; raises ``PolicyError``."""
        check_bits("w", self.w)
        check_bits("a", self.a)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the network reads; None leaves a field to the architecture.

    ``mean`` and ``std`` are per channel for photographs whose white is 1. ``resize`` is the length
    of the shorter side, in pixels, before the centre is cut out.
    """

    shape: tuple[int, int, int, int] | None = None  # [N, C, H, W]
    mean: tuple[float, ...] | None = None  # [C]
    std: tuple[float, ...] | None = None  # [C]
    resize: int | None = None
    interpolation: str | None = None  # one of INTERPOLATIONS


INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which network the policy belongs to; None leaves a field to the command line."""

    arch: str | None = None
    weights: str | None = None
    input: InputSpec | None = None
    quantized: str | None = None  # the file of an integer graph, which is then not calibrated

    def seen_from(self, folder: Path, base: Path) -> ModelSpec:
        """Return the same files, named from ``folder`` instead of ``base``."""
        weights = None if self.weights is None else seen_from(folder, self.weights, base)
        graph = None if self.quantized is None else seen_from(folder, self.quantized, base)
        return replace(self, weights=weights, quantized=graph)


@dataclass(frozen=True, slots=True)
class CalibrationSpec:
    """Where the images are that ranges are calibrated on; the command line may name others."""

    images: tuple[str, ...]  # locations, relative ones against the policy's folder
    limit: int | None = None  # the most that are used

    def seen_from(self, folder: Path, base: Path) -> CalibrationSpec:
        """Return the same images, named from ``folder`` instead of ``base``."""
        images = tuple(seen_from(folder, location, base) for location in self.images)
        return replace(self, images=images)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the bits come from; ``details`` is whatever else the method wants to keep."""

    method: str | None = None
    dataset: str | None = None
    constraint: Mapping[str, float] | None = None  # for example {"bops": 15.3e9}
    seed: int | None = None
    details: Mapping[str, JSON] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Bits per layer, by module path; ``default`` holds for the layers that are not named.

    ``output_bits`` are those of codes at the network's outputs; None leaves outputs of layers
    float32.
    """

    layers: Mapping[str, LayerBits]
    default: LayerBits | None = None
    output_bits: int | None = None
    model: ModelSpec = field(default_factory=ModelSpec)
    provenance: Provenance | None = None
    calibration: CalibrationSpec | None = None

    def seen_from(self, folder: Path, base: Path) -> Policy:
        """Return the same policy in ``folder``, where relative locations started at ``base``."""
        named = self.calibration
        calibration = None if named is None else named.seen_from(folder, base)
        return replace(self, model=self.model.seen_from(folder, base), calibration=calibration)


def check_bits(key: str, bits: JSON) -> None:
    """Pass whole numbers from 1 to 8.

    Raises:
        PolicyError: anything else.
    """
    if type(bits) is not int:
        raise PolicyError(f"{key}: bits must be a whole number, got {bits!r}: use 1 to {MOST_BITS}")
    if key == "a" and bits == 16:
        raise PolicyError(
            f"a: no target holds 16-bit activations yet, got 16: use 1 to {MOST_BITS}"
        )
    if not 1 <= bits <= MOST_BITS:
        raise PolicyError(f"{key}: bits out of range, got {bits}: use 1 to {MOST_BITS}")


def bind(policy: Policy, layer_names: Iterable[str]) -> dict[str, LayerBits]:
    """Return the bits of every layer of a network, in the network's order.

    An entry of a module that is called several times holds for all its calls; ``name:2`` names the
    second one, and goes before it.

    Raises:
        PolicyError: the policy names a layer that the network does not have, or the network has a
            layer that the policy does not cover.
    """
    names = tuple(layer_names)
    unknown = [layer for layer in policy.layers if layer not in names]
    if unknown:
        raise PolicyError(
            f'layer "{unknown[0]}"{_others(unknown)} is not in the network'
            f"{closest(unknown[0], names)}: `gmpq explain` lists the network's layers"
        )
    bits = {name: bits_of(policy, name) for name in names}
    uncovered = [name for name, found in bits.items() if found is None]
    if uncovered:
        raise PolicyError(
            f'layer "{uncovered[0]}"{_others(uncovered)} of the network is not in the policy'
            f'{closest(uncovered[0], policy.layers)}: add it to "layers", or give a "default"'
        )
    return {name: found for name, found in bits.items() if found is not None}


def bits_of(policy: Policy, layer: str) -> LayerBits | None:
    """Return the bits of a layer: its own, else its module's, else the default; None without."""
    return policy.layers.get(layer) or policy.layers.get(module_of(layer)) or policy.default


def module_of(layer: str) -> str:
    """Return the module's path of a layer, which ``:2`` follows in its second call."""
    return LATER_CALL.sub("", layer)


def differing_calls(bits: Mapping[str, LayerBits]) -> list[str]:
    """Return a line for each call of a module whose bits are not those of its first call."""
    return [
        f'layer "{layer}" computes with the weight of "{module_of(layer)}" at '
        f"{_name(found)} instead of {_name(bits[module_of(layer)])}: "
        f'name "{module_of(layer)}" alone to give both the same bits'
        for layer, found in bits.items()
        if found != bits.get(module_of(layer), found)
    ]


def _name(bits: LayerBits) -> str:
    return f"w{bits.w}a{bits.a}"


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
