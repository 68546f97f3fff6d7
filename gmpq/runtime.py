"""Running a compiled network with numpy alone.

    network = gmpq.runtime.load("resnet18-native")
    logits = network.run(image)          # float32 [1, 3, 224, 224] to float32 [1, 1000]

``load`` reads ``manifest.json``, ``params.bin`` and ``model.so`` of the directory.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.errors import OutputError

Tensor: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float32]

HUGE_PAGE = 2 << 20  # bytes
UNWRITTEN = 0xFFFFFFFF  # the bits of a NaN that no program computes, before a run that is checked


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of the program: ``node`` computed by ``kernel`` writes ``outputs``."""

    node: str
    kernel: str
    outputs: tuple[str, ...]


class Network:
    """A compiled network in this process; one at a time may run."""

    def __init__(self, directory: Path, program: Mapping[str, Any]) -> None:
        self._program = program
        self._params = zeros(program["params_bytes"])
        self._params[:] = np.fromfile(directory / "params.bin", dtype=np.uint8)
        self._workspace = zeros(program["workspace_bytes"])
        self._library = ctypes.CDLL(str(directory / "model.so"))

    @property
    def steps(self) -> tuple[Step, ...]:
        """The layers in execution order."""
        return tuple(
            Step(step["node"], step["kernel"], tuple(output["name"] for output in step["outputs"]))
            for step in self._program["steps"]
        )

    @property
    def target(self) -> str:
        """The target that the network was compiled for."""
        name: str = self._program["target"]
        return name

    def set_threads(self, threads: int) -> None:
        """Run each layer on ``threads`` threads."""
        if self._library.gmpq_set_threads(threads) != 0:
            raise ValueError(f"cannot run on {threads} threads: choose 1 to 256")

    def run(self, *inputs: Floats) -> Floats | tuple[Floats, ...]:
        """Return the outputs for float32 ``inputs``; a single output comes alone.

        Raises:
            ValueError: An input has another shape or type than the network.
        """
        outputs = self._outputs()
        self._call(self._checked(inputs), outputs, 0, len(self._program["steps"]))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run_named(self, *inputs: Floats) -> dict[str, Floats]:
        """Return the outputs for float32 ``inputs`` by name, in the order of ``run``.

        Raises:
            ValueError: An input has another shape or type than the network.
        """
        found = self.run(*inputs)
        arrays = found if isinstance(found, tuple) else (found,)
        names = (output["name"] for output in self._program["outputs"])
        return dict(zip(names, arrays, strict=True))

    def run_checked(self, *inputs: Floats) -> list[tuple[str, Floats]]:
        """Return the outputs by name as ``gmpq_run`` leaves them in memory of ``UNWRITTEN``.

        Raises:
            ValueError: An input has another shape or type than the network.
        """
        checked, outputs = self._checked(inputs), self._unwritten()
        params, workspace = _pointer(self._params), _pointer(self._workspace)
        status = self._library.gmpq_run(params, workspace, _pointers(checked), _pointers(outputs))
        if status != 0:
            raise RuntimeError(f"the compiled network failed with status {status}")
        names = (output["name"] for output in self._program["outputs"])
        return list(zip(names, outputs, strict=True))

    def trace(self, *inputs: Floats) -> Iterator[tuple[str, Tensor]]:
        """Yield every value by name as it is computed: codes as uint8, outputs as float32."""
        checked, outputs = self._checked(inputs), self._unwritten()
        names = [output["name"] for output in self._program["outputs"]]
        for i, step in enumerate(self._program["steps"]):
            self._call(checked, outputs, i, i + 1)
            for output in step["outputs"]:
                name = output["name"]
                if "offset" in output:
                    yield name, codes_of(self._workspace, output)
                elif name in names:
                    yield name, outputs[names.index(name)].copy()

    def stepper(self, *inputs: Floats) -> Callable[[int, int], None]:
        """Return a function that runs the steps ``first <= i < last`` on ``inputs``, for timing."""
        checked, outputs = self._checked(inputs), self._outputs()
        return lambda first, last: self._call(checked, outputs, first, last)

    def _outputs(self) -> list[Floats]:
        return [np.empty(output["shape"], np.float32) for output in self._program["outputs"]]

    def _unwritten(self) -> list[Floats]:
        """Return outputs of ``UNWRITTEN``; the workspace holds nothing of earlier runs either."""
        self._workspace.fill(UNWRITTEN & 0xFF)
        outputs = self._outputs()
        for output in outputs:
            output.view(np.uint32).fill(UNWRITTEN)
        return outputs

    def _checked(self, inputs: Sequence[Floats]) -> list[Floats]:
        expected = self._program["inputs"]
        if len(inputs) != len(expected):
            raise ValueError(f"expected {len(expected)} inputs, got {len(inputs)}")
        for array, spec in zip(inputs, expected, strict=True):
            if list(array.shape) != spec["shape"] or array.dtype != np.float32:
                raise ValueError(
                    f"input {spec['name']!r} must be float32 {spec['shape']}, "
                    f"got {array.dtype} {list(array.shape)}"
                )
        return [np.ascontiguousarray(array) for array in inputs]

    def _call(
        self, inputs: Sequence[Floats], outputs: Sequence[Floats], first: int, last: int
    ) -> None:
        status = self._library.gmpq_run_steps(
            _pointer(self._params),
            _pointer(self._workspace),
            _pointers(inputs),
            _pointers(outputs),
            first,
            last,
        )
        if status != 0:
            raise RuntimeError(f"the compiled network failed with status {status}")


def load(directory: str | Path) -> Network:
    """Return the network that ``gmpq-compile`` wrote into ``directory``.

    Raises:
        OutputError: The directory holds no compiled network.
    """
    folder = Path(directory)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return Network(folder, manifest["tvm"])
    except (FileNotFoundError, KeyError, json.JSONDecodeError) as error:
        raise OutputError(
            f"{folder}: no compiled network here ({error}): run gmpq-compile first"
        ) from error


def codes_of(workspace: Tensor, output: Mapping[str, Any]) -> Tensor:
    """Return the codes that a step left in the bytes of ``workspace``."""
    start = workspace[output["offset"] :]
    return np.lib.stride_tricks.as_strided(start, output["shape"], output["strides"]).copy()


def zeros(size: int) -> NDArray[np.uint8]:
    """Return ``size`` zeros that start at a cache line, in huge pages if they are many.

    A run reads all weights once: with small pages the processor looks up where each 4 KiB lie.
    """
    whole = (size // HUGE_PAGE + 2) * HUGE_PAGE  # whole pages, wherever the first one begins
    memory = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux" and size >= HUGE_PAGE // 2:
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    everything = np.frombuffer(memory, np.uint8)
    start = -everything.ctypes.data % HUGE_PAGE
    return everything[start : start + size]


def _pointer(array: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _pointers(arrays: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
