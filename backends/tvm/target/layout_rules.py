"""How values of codes lie in the memory of a kind of target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayoutRules:
    """Multiples in channels, pixels and bytes that kernels of a target rely on."""

    vector: int  # channels of one vector of codes; the channels of a value are whole vectors
    group: int  # channels that one step of a dot product reads, of inputs with few channels
    fold: int  # rows and columns that some strided convolutions read as one pixel; 1 without them
    alignment: int  # bytes of which the address of every value and constant is a multiple
    slack: int  # bytes that a vector may reach beyond the last code
    dense_pixels: bool = False  # first layers read rows of taps without padding channels
