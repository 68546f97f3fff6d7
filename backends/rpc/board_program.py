"""A compiled network on a board, as an ``Executable``: calls of the server's functions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np

from gmpq.backends.base import Tensor
from gmpq.program import Program, StoredValue, TensorSpec

LIBRARY, PARAMS = "model.so", "params.bin"
Call: TypeAlias = Callable[..., Any]
Functions: TypeAlias = Callable[[str], Call]  # the board's functions by name


@final
class BoardProgram:
    """A compiled network that runs on a board; inputs are sent when they are others than before."""

    def __init__(self, program: Program, functions: Functions, *, emulated: bool) -> None:
        """Wrap a ``program`` that is open on the board; ``open`` opens one."""
        self._program = program
        self._call = functions
        self._emulated = emulated
        self._sent: Mapping[str, Tensor] = {}

    @classmethod
    def open(
        cls,
        directory: Path,
        program: Program,
        threads: int,
        functions: Functions,
        *,
        emulated: bool,
    ) -> BoardProgram:
        """Return the ``program`` in ``directory`` after sending its files to the board.

        Raises:
            RuntimeError: the board refuses it, or the connection is lost.
        """
        upload = functions("tvm.rpc.server.upload")
        for name in (LIBRARY, PARAMS):
            upload(name, (directory / name).read_bytes())
        functions("gmpq.board.open")(
            *(LIBRARY, PARAMS, program.params_bytes, program.workspace_bytes),
            *(len(program.steps), threads, program.prefix),
        )
        for spec in program.outputs:
            functions("gmpq.board.output")(4 * spec.elements)
        return cls(program, functions, emulated=emulated)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(spec.name for spec in self._program.outputs)

    @property
    def emulated(self) -> bool:
        """Whether the board's processor is an emulated one: then its times are no latencies."""
        return self._emulated

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name for ``inputs`` by name, float32, in the program's shapes.

        Raises:
            RuntimeError: the program fails, or the connection is lost.
        """
        self._send(inputs)
        self._call("gmpq.board.run")(0, len(self._program.steps))
        return self._outputs()

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every stored value by name: codes in the order of steps, then the outputs.

        Codes are uint8, inputs and outputs float32, all in the program's shapes.

        Raises:
            RuntimeError: the program fails, or the connection is lost.
        """
        self._send(inputs)
        run_steps = self._call("gmpq.board.run")
        found: dict[str, Tensor] = {}
        for index, step in enumerate(self._program.steps):
            run_steps(index, index + 1)
            found.update({value.name: self._codes(value) for value in step.stored})
        return {**found, **self._outputs()}

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        """Return the milliseconds of ``count`` runs, by the board's clock.

        ``inputs`` are float32 by name, in the program's shapes.

        Raises:
            RuntimeError: the program fails, or the connection is lost.
        """
        self._send(inputs)
        return _floats(self._call("gmpq.board.time_runs")(count))

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Return the milliseconds of each step in ``count`` runs by node, by the board's clock.

        ``inputs`` are float32 by name, in the program's shapes.

        Raises:
            RuntimeError: the program fails, or the connection is lost.
        """
        self._send(inputs)
        times = _floats(self._call("gmpq.board.time_steps")(count, flush_bytes))
        steps = self._program.steps
        return {step.node: times[i :: len(steps)] for i, step in enumerate(steps)}

    def close(self) -> None:
        """Do nothing: the board frees the program when the session ends."""

    def _send(self, inputs: Mapping[str, Tensor]) -> None:
        if inputs is self._sent:
            return
        give = self._call("gmpq.board.input")
        for index, spec in enumerate(self._program.inputs):
            give(index, np.ascontiguousarray(inputs[spec.name], np.float32).tobytes())
        self._sent = inputs

    def _codes(self, value: StoredValue) -> Tensor:
        content = self._call("gmpq.board.read_workspace")(value.offset, value.span_bytes)
        return value.codes(np.frombuffer(bytes(content), np.uint8))

    def _outputs(self) -> dict[str, Tensor]:
        read = self._call("gmpq.board.read_output")
        return {
            spec.name: _array(spec, bytes(read(index)))
            for index, spec in enumerate(self._program.outputs)
        }


def _array(spec: TensorSpec, content: bytes) -> Tensor:
    return np.frombuffer(content, np.float32).reshape(spec.shape)


def _floats(content: Any) -> list[float]:
    return [number for (number,) in struct.iter_unpack("<d", bytes(content))]
