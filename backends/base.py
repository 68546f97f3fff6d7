"""The interface of all programs that run an integer graph, and summaries of their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tensor: TypeAlias = NDArray[Any]


class Runnable(Protocol):
    """A network that is ready to run."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name, in the program's order, for ``inputs`` by name.

        All are float32, in the graph's shapes.
        """

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the values that are stored, by name, in the graph's logical shapes.

        These are the codes of all quantized values, as uint8, but those that exist inside a kernel
        only. Compiled programs add their float32 outputs, as step after step leaves them.
        """


class Executable(Runnable, Protocol):
    """A network that is compiled for, or loaded by, one device: it can be timed too.

    Implementations are final classes: ``HostProgram``, ``EmulatedProgram``, ``OrtProgram`` and
    ``BoardProgram``.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""

    @property
    def emulated(self) -> bool:
        """Whether an emulator runs it: then there are no latencies."""

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        """Return the milliseconds of ``count`` runs.

        ``inputs`` are float32 by name, in the graph's shapes.

        Raises:
            TargetError: the program is emulated.
        """

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Return the milliseconds of each step in ``count`` runs, by name, in execution order.

        ``inputs`` are float32 by name, in the graph's shapes. Before each step ``flush_bytes``
        other bytes are read, which evicts its operands from the caches; 0 leaves them there.

        Raises:
            TargetError: the program is emulated.
        """

    def close(self) -> None:
        """Free what the program holds; it cannot be used afterwards."""


def elapsed_ms(run: Callable[[], object]) -> float:
    """Return the milliseconds of one call of ``run``, by the wall clock."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def flusher(size_bytes: int) -> Callable[[], object]:
    """Return a function that reads ``size_bytes`` other bytes, to evict data from the caches."""
    if not size_bytes:
        return lambda: None
    return np.ones(size_bytes, np.uint8).max


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
