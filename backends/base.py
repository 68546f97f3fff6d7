"""What every program that runs an integer graph offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Tensor: TypeAlias = NDArray[Any]


class Program(Protocol):
    """A network that is ready to run on this machine."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name for float32 ``inputs`` by name."""

    def tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the codes of every quantized value by name, in the graph's logical shapes."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of repeated runs."""

    median_ms: float
    min_ms: float
    p90_ms: float
    runs: int
