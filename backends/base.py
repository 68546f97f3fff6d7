"""What every program that runs an integer graph offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
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


def timing(samples_ms: Sequence[float]) -> Timing:
    """Return the summary of repeated runs; at least one sample."""
    return Timing(
        median_ms=float(np.median(samples_ms)),
        min_ms=float(np.min(samples_ms)),
        p90_ms=float(np.percentile(samples_ms, 90)),
        runs=len(samples_ms),
    )
