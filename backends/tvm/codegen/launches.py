"""A GPU program as a table of launches: what the C entry replays, and captures into a graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Place(IntEnum):
    """The memory in which an argument of a kernel lies."""

    PARAMS = 0
    WORKSPACE = 1
    INPUT = 2
    OUTPUT = 3


@dataclass(frozen=True, slots=True)
class Argument:
    """A pointer: ``offset`` bytes into a memory, of which inputs and outputs have several."""

    place: Place
    offset: int = 0
    index: int = 0  # of the network's input or output


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel, whose parameters are pointers alone."""

    kernel: str
    grid: tuple[int, int, int]
    threads: int  # of a block, along x
    arguments: tuple[Argument, ...]
    dynamic_shared: int = 0  # of dynamic shared memory


@dataclass(frozen=True, slots=True)
class LaunchTable:
    """All launches of a network, step by step, and the bytes of its memories."""

    steps: tuple[tuple[Launch, ...], ...]
    params_bytes: int
    workspace_bytes: int
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of all kernels, each once, in the order of their first launch."""
        return tuple(dict.fromkeys(launch.kernel for step in self.steps for launch in step))
