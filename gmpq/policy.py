"""The policy: bits of weights and input activations per layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerBits:
    """Bits of a layer's weight and of its input activation, 1 to 8."""

    w: int
    a: int
