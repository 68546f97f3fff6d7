"""A compiled network in this process, as an ``Executable``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

from gmpq.backends.base import Tensor, elapsed_ms, flusher
from gmpq.program import Program
from gmpq.runtime import Network


@final
@dataclass(frozen=True, slots=True, eq=False)
class HostProgram:
    """A compiled network that runs on this machine's processor."""

    network: Network

    @classmethod
    def open(cls, directory: Path, program: Program) -> HostProgram:
        """Return the ``program`` in ``directory``, which holds ``model.so`` and ``params.bin``.

        Raises:
            OutputError: a file is missing, damaged, or not for this machine.
        """
        return cls(Network(directory, program))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(output.name for output in self.network.outputs)

    @property
    def emulated(self) -> bool:
        """False."""
        return False

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name; what the program leaves unwritten is ``UNWRITTEN``.

        Inputs and outputs are float32 by name, in the program's shapes.

        Raises:
            ValueError: an input has another shape or type than the program's.
        """
        return dict(self.network.run_checked(*self._ordered(inputs)))

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every stored value by name: codes as uint8, outputs as float32.

        ``inputs`` are float32 by name; all have the program's shapes.

        Raises:
            ValueError: an input has another shape or type than the program's.
        """
        return dict(self.network.trace(*self._ordered(inputs)))

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        """Return the milliseconds of ``count`` runs.

        ``inputs`` are float32 by name, in the program's shapes.

        Raises:
            ValueError: an input has another shape or type than the program's.
        """
        arrays = self._ordered(inputs)
        return [elapsed_ms(partial(self.network.run, *arrays)) for _ in range(count)]

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Return the milliseconds of each step in ``count`` runs, by node.

        ``inputs`` are float32 by name, in the program's shapes. ``flush_bytes`` other bytes are
        read before each step.

        Raises:
            ValueError: an input has another shape or type than the program's.
        """
        step, flush = self.network.stepper(*self._ordered(inputs)), flusher(flush_bytes)
        names = [step.node for step in self.network.steps]
        spent: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(count):
            for index, name in enumerate(names):
                flush()
                spent[name].append(elapsed_ms(partial(step, index, index + 1)))
        return spent

    def close(self) -> None:
        """End the threads of the network and free its memory."""
        self.network.close()

    def _ordered(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        return [inputs[spec.name] for spec in self.network.inputs]
