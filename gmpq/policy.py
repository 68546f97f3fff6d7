"""The policy: bits of weights and input activations per layer, and the network they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gmpq.errors import PolicyError, closest

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

VERSION = 1
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
    uncovered = [name for name in names if name not in policy.layers]
    if uncovered and policy.default is None:
        raise PolicyError(
            f'layer "{uncovered[0]}"{_others(uncovered)} of the network is not in the policy'
            f'{closest(uncovered[0], policy.layers)}: add it to "layers", or give a "default"'
        )
    return {name: policy.layers.get(name) or _default(policy) for name in names}


def _default(policy: Policy) -> LayerBits:
    assert policy.default is not None, "uncovered layers were refused"
    return policy.default


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
