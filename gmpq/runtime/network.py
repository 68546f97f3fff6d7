"""Running a compiled network with numpy alone.

    network = gmpq.runtime.load("resnet18-native")
    logits = network.run(image)          # float32 [1, 3, 224, 224] to float32 [1, 1000]

``load`` reads ``manifest.json``, ``params.bin`` and ``model.so`` of the directory. Several threads
may call a network at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from gmpq.errors import OutputError
from gmpq.files import manifest
from gmpq.program import Program
from gmpq.runtime.arrays import Floats, Tensor, pointers
from gmpq.runtime.described import Described
from gmpq.runtime.loading import LIBRARY, PARAMS, Loaded, Memory, open_program

CUDA = "cuda"  # what names of GPU targets begin with
UNWRITTEN = 0xFFFFFFFF  # the bits of a NaN that no program computes, before a run that is checked


class Network(Described):
    """A compiled network in this process.

    Each call of ``run`` takes a workspace that no other call uses; those of calls that ran
    at once are kept. The parameters are shared.
    """

    def __init__(
        self,
        directory: Path,
        program: Program,
        digests: Mapping[str, str] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        """Load the ``program`` in ``directory``.

        Args:
            directory: Holds ``model.so`` and ``params.bin``.
            program: What they hold.
            digests: The SHA-256 of both by name, which are compared where they are given.
            preprocessing: How photographs become inputs, as in the manifest.

        Raises:
            OutputError: A file is missing, damaged, or not for this machine.
        """
        self.preprocessing = MappingProxyType(dict(preprocessing or {}))
        super().__init__(program)
        self._loaded: Loaded | None = open_program(program, directory, digests or {})
        self._free: list[Memory] = []  # workspaces

    def set_threads(self, threads: int) -> None:
        """Run each layer on ``threads`` threads, of one call at a time; others run on their own.

        Raises:
            ValueError: So many threads cannot be started, or the network is closed.
        """
        if self._opened().set_threads(threads) != 0:
            raise ValueError(f"cannot run on {threads} threads: choose 1 to 256")

    def run(self, *inputs: Floats) -> Floats | tuple[Floats, ...]:
        """Return the outputs, a single one alone, for ``inputs``: float32 in the network's shapes.

        Raises:
            TypeError: An input is no numpy array.
            ValueError: An input has another shape or type than the network's, or it is closed.
        """
        checked, outputs = self._checked(inputs), self._outputs()
        workspace = self._take()
        try:
            self._call(workspace, checked, outputs, 0, len(self._program.steps))
        finally:
            self._give(workspace)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run_named(self, *inputs: Floats) -> dict[str, Floats]:
        """Return the outputs of ``run`` by name, in its order: float32 in the network's shapes.

        Raises:
            TypeError: An input is no numpy array.
            ValueError: An input has another shape or type than the network's, or it is closed.
        """
        found = self.run(*inputs)
        arrays = found if isinstance(found, tuple) else (found,)
        return dict(zip((output.name for output in self.outputs), arrays, strict=True))

    def run_checked(self, *inputs: Floats) -> list[tuple[str, Floats]]:
        """Return the outputs by name as ``gmpq_run`` leaves them in memory of ``UNWRITTEN``.

        All are float32, in the network's shapes.

        Raises:
            TypeError: An input is no numpy array.
            ValueError: An input has another shape or type than the network's, or it is closed.
        """
        checked, outputs = self._checked(inputs), self._unwritten()
        program, workspace = self._opened(), self._poisoned()  # held here while they are used
        status = program.run(
            program.params.pointer, workspace.pointer, pointers(checked), pointers(outputs)
        )
        if status != 0:
            raise RuntimeError(f"the compiled network failed with status {status}")
        return list(zip((output.name for output in self.outputs), outputs, strict=True))

    def trace(self, *inputs: Floats) -> Iterator[tuple[str, Tensor]]:
        """Yield every value by name as it is computed: codes as uint8, outputs as float32.

        ``inputs`` are float32; all have the network's shapes.

        Raises:
            TypeError: An input is no numpy array.
            ValueError: An input has another shape or type than the network's, or it is closed.
        """
        checked, outputs = self._checked(inputs), self._unwritten()
        names = [output.name for output in self.outputs]
        workspace = self._poisoned()
        for i, step in enumerate(self.steps):
            self._call(workspace, checked, outputs, i, i + 1)
            stored = {value.name: value for value in step.stored}
            for name in step.outputs:
                if name in stored:
                    value = stored[name]
                    yield name, value.codes(workspace.content[value.offset :])
                elif name in names:
                    yield name, outputs[names.index(name)].copy()

    def stepper(self, *inputs: Floats) -> Callable[[int, int], None]:
        """Return a function that runs the steps ``first <= i < last`` on ``inputs``, for timing.

        ``inputs`` are those of ``run``, float32 in the network's shapes; others raise its errors.
        """
        checked, outputs = self._checked(inputs), self._outputs()
        workspace = Memory.of(self._program.workspace_bytes)
        return lambda first, last: self._call(workspace, checked, outputs, first, last)

    def close(self) -> None:
        """End the network's threads and free its memory, as soon as no call runs any more."""
        self._loaded = None
        self._free.clear()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> Loaded:
        loaded = self._loaded
        if loaded is None:
            raise ValueError("the network is closed: load it again")
        return loaded

    def _take(self) -> Memory:
        """Return a workspace that no other call uses; threads may take and give at once."""
        try:
            return self._free.pop()
        except IndexError:
            return Memory.of(self._program.workspace_bytes)

    def _give(self, workspace: Memory) -> None:
        if self._loaded is not None:
            self._free.append(workspace)

    def _unwritten(self) -> list[Floats]:
        """Return outputs of ``UNWRITTEN``."""
        outputs = self._outputs()
        for output in outputs:
            output.view(np.uint32).fill(UNWRITTEN)
        return outputs

    def _poisoned(self) -> Memory:
        """Return a workspace that holds nothing of earlier runs."""
        workspace = Memory.of(self._program.workspace_bytes)
        workspace.content.fill(UNWRITTEN & 0xFF)
        return workspace

    def _call(
        self,
        workspace: Memory,
        inputs: Sequence[Floats],
        outputs: Sequence[Floats],
        first: int,
        last: int,
    ) -> None:
        program = self._opened()  # held here, so that it stays loaded
        status = program.run_steps(
            program.params.pointer,
            workspace.pointer,
            pointers(inputs),
            pointers(outputs),
            first,
            last,
        )
        if status != 0:
            raise RuntimeError(f"the compiled network failed with status {status}")


def load(directory: str | Path, *, check: bool = True) -> Network:
    """Return the network that ``gmpq-compile`` wrote into ``directory``.

    Args:
        directory: Holds ``manifest.json``, ``params.bin`` and ``model.so``.
        check: Whether to compare the digests of the latter two, which takes some milliseconds.

    Raises:
        OutputError: The directory holds no compiled network, a damaged one, or one for another
            machine.
    """
    folder = Path(directory)
    fields = manifest.read(folder)
    program, digests = described(folder, fields, check=check)
    if program.target.startswith(CUDA):
        raise OutputError(f"{folder}: compiled for {program.target}: open it with load_cuda")
    preprocessing = fields.get("preprocessing")
    known = preprocessing if isinstance(preprocessing, dict) else None
    return Network(folder, program, digests, known)


def described(
    folder: Path, fields: Mapping[str, Any], *, check: bool
) -> tuple[Program, dict[str, str] | None]:
    """Return the program in ``folder`` by its manifest, and the digests to ``check`` its files by.

    Raises:
        OutputError: The manifest is damaged.
    """
    digests = _digests(fields.get("files"), folder / manifest.NAME) if check else None
    try:
        return Program.from_json(fields.get("tvm", {})), digests
    except ValueError as error:
        raise OutputError(f"{folder / manifest.NAME}: {error}: compile again") from error


def _digests(files: Any, place: Path) -> dict[str, str]:
    try:
        return {name: files[name]["sha256"] for name in (LIBRARY, PARAMS)}
    except (KeyError, TypeError) as error:
        raise OutputError(
            f"{place}: damaged: it has no digest of {LIBRARY} and {PARAMS}: compile again"
        ) from error
