"""What a built-in network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Arch:
    """A network that a policy can name."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]  # the usual input [C, H, W]
