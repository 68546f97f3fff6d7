"""A compiled network on an NVIDIA GPU, with numpy alone."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmpq.errors import OutputError, TargetError
from gmpq.files import manifest
from gmpq.program import Program
from gmpq.runtime.arrays import Floats, Tensor, pointers
from gmpq.runtime.described import Described
from gmpq.runtime.loading import LIBRARY, files_of
from gmpq.runtime.network import CUDA, described
from gmpq.runtime.shared_library import SharedLibrary

DRIVER = "libcuda.so.1"
NOT_HERE = -2  # the status of an entry without a device
BYTE = 0xFF  # four of them are UNWRITTEN


class NoDeviceError(TargetError):
    """This machine has no device that runs a program."""


class CudaNetwork(Described):
    """A compiled network on a device; one thread at a time may use it."""

    def __init__(
        self,
        directory: Path,
        program: Program,
        digests: Mapping[str, str] | None = None,
        *,
        device: int = 0,
        driver: str = DRIVER,
    ) -> None:
        """Open the ``program`` in ``directory``, which holds ``model.so`` and ``params.bin``.

        Args:
            directory: Where it was compiled to.
            program: What it holds.
            digests: The SHA-256 of both files by name, which are compared where they are given.
            device: The number of the GPU.
            driver: The library of the driver.

        Raises:
            OutputError: A file is missing or damaged.
            NoDeviceError: There is no driver, no such device, or not of this architecture.
            TargetError: The device fails.
        """
        super().__init__(program)
        self._path = directory / LIBRARY
        content, params = files_of(program, directory, digests or {})
        self._functions = functions = _Functions(content, self._path, program.prefix)
        self._network = network = ctypes.c_void_p()
        status = functions.entry("open_driver")(
            ctypes.byref(network), driver.encode(), device, params
        )
        if status != 0:
            kind = NoDeviceError if status == NOT_HERE else TargetError
            raise kind(f"{self._path}: {functions.error()}")
        self._free = weakref.finalize(self, functions.close, network)

    def run(self, *inputs: Floats) -> Floats | tuple[Floats, ...]:
        """Return the outputs, a single one alone, for ``inputs``: float32 in the network's shapes.

        Raises:
            TypeError: An input is no numpy array.
            ValueError: An input has another shape or type than the network's, or it is closed.
            TargetError: The device fails.
        """
        outputs = self._run(inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run_checked(self, *inputs: Floats) -> list[tuple[str, Floats]]:
        """Return the outputs by name; what the program leaves unwritten is ``UNWRITTEN``.

        All are float32, in the network's shapes; errors are those of ``run``.
        """
        self._try("fill", self._opened(), BYTE)
        return list(zip((output.name for output in self.outputs), self._run(inputs), strict=True))

    def trace(self, *inputs: Floats) -> Iterator[tuple[str, Tensor]]:
        """Yield every value by name as it is computed: codes as uint8, outputs as float32.

        ``inputs`` are float32; all have the network's shapes; errors are those of ``run``.
        """
        network, checked = self._opened(), self._checked(inputs)
        names = [output.name for output in self.outputs]
        self._try("fill", network, BYTE)
        self._try("write_inputs", network, pointers(checked))
        for i, step in enumerate(self.steps):
            self._try("run_steps", network, i, i + 1)
            for value in step.stored:
                span = np.empty(value.span_bytes, np.uint8)
                self._try("read_workspace", *(network, value.offset, *_memory(span)))
                yield value.name, value.codes(span)
            if written := [name for name in step.outputs if name in names]:
                outputs = self._outputs()
                self._try("read_outputs", network, pointers(outputs))
                yield from ((name, outputs[names.index(name)]) for name in written)

    def time_ms(self, first: int, last: int) -> float:
        """Return the milliseconds of the steps ``first <= i < last`` on the device.

        They run on what is there; all of them run as one graph.

        Raises:
            ValueError: There are no such steps, or the network is closed.
            TargetError: The device fails.
        """
        if not 0 <= first <= last <= len(self.steps):
            raise ValueError(f"no steps {first} to {last}: there are {len(self.steps)}")
        spent = ctypes.c_float()
        self._try("time", self._opened(), first, last, ctypes.byref(spent))
        return spent.value

    def close(self) -> None:
        """Free what the network has on the device; what is not closed is freed with the object."""
        self._free()

    def __enter__(self) -> CudaNetwork:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _run(self, inputs: tuple[Floats, ...]) -> list[Floats]:
        network, checked, outputs = self._opened(), self._checked(inputs), self._outputs()
        self._try("run", network, pointers(checked), pointers(outputs))
        return outputs

    def _opened(self) -> ctypes.c_void_p:
        if not self._free.alive:
            raise ValueError("the network is closed: load it again")
        return self._network

    def _try(self, name: str, *arguments: Any) -> None:
        if self._functions.entry(name)(*arguments) != 0:
            raise TargetError(f"{self._path}: {self._functions.error()}")


class _Functions:
    """The entry points of a library."""

    def __init__(self, content: bytes, path: Path, prefix: str) -> None:
        try:
            self._library = SharedLibrary(content, path)
            self._prefix = prefix
            self._error = self._library.functions[f"{prefix}_error"]
            self._close = self._library.functions[f"{prefix}_close"]
        except (OSError, AttributeError) as error:
            raise OutputError(f"{path}: cannot be loaded: {error}: compile again") from error
        self._error.restype, self._close.restype = ctypes.c_char_p, None
        read = self.entry("read_workspace")
        read.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t]

    def entry(self, name: str) -> Any:
        """Return the function ``name``."""
        return getattr(self._library.functions, f"{self._prefix}_{name}")  # kept, with its types

    def error(self) -> str:
        """Return what the last failure in this thread was."""
        message: bytes = self._error()
        return message.decode()

    def close(self, network: ctypes.c_void_p) -> None:
        """Free a network."""
        self._close(network)


def _memory(array: Tensor) -> tuple[int, int]:
    """Return the address and the bytes of an array of any shape."""
    return array.ctypes.data, array.nbytes


def load_cuda(directory: str | Path, *, device: int = 0, check: bool = True) -> CudaNetwork:
    """Return the network that ``gmpq-compile`` wrote into ``directory`` for a GPU, on a device.

    Args:
        directory: Holds ``manifest.json``, ``params.bin`` and ``model.so``.
        device: The number of the GPU.
        check: Whether to compare the digests of the latter two, which takes some milliseconds.

    Raises:
        OutputError: The directory holds no compiled network, or a damaged one.
        NoDeviceError: There is no driver, no such device, or not of this architecture.
        TargetError: The device fails.
    """
    folder = Path(directory)
    program, digests = described(folder, manifest.read(folder), check=check)
    if not program.target.startswith(CUDA):
        raise OutputError(f"{folder}: compiled for {program.target}: open it with load")
    return CudaNetwork(folder, program, digests, device=device)
