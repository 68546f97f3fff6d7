"""A compiled network on a GPU, or on its emulation, as an ``Executable``."""

from __future__ import annotations

import _ctypes
import ctypes
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import final

from gmpq.backends.base import Tensor
from gmpq.backends.host import host
from gmpq.backends.tvm.codegen.cuda import write_library
from gmpq.backends.tvm.codegen.form import ENTRY, KERNELS, LIBRARY, PARAMS
from gmpq.backends.tvm.emulation.cuda.library import emulated_driver
from gmpq.backends.tvm.target import GpuTarget, native
from gmpq.errors import OutputError, TargetError
from gmpq.files import temporary
from gmpq.program import Program
from gmpq.runtime.cuda import DRIVER, CudaNetwork

# As TVM prints a kernel: extern "C" __global__ void __launch_bounds__(128) gmpq_kernel_0(...) {
KERNEL = re.compile(r"__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\) {")


class EmulatedDriver:
    """A library in this process that plays the driver of one GPU."""

    def __init__(self, path: Path, target: GpuTarget) -> None:
        """Load the library of ``emulated_driver``, for a GPU of the target's architecture."""
        self._library = ctypes.CDLL(str(path))
        self._library.emulated_message.restype = ctypes.c_char_p
        self._library.emulated_set(b"capability", target.capability)
        self._unload = weakref.finalize(self, _ctypes.dlclose, self._library._handle)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Add to an error of the driver what the kernel has done."""
        try:
            yield
        except TargetError as error:
            found: bytes = self._library.emulated_message()
            raise TargetError(f"{error}: {found.decode()}") if found else error from error

    def close(self) -> None:
        """Unload the library."""
        self._unload()


@final
@dataclass(frozen=True, slots=True, eq=False)
class CudaProgram:
    """A compiled network that a driver runs, of this machine or an emulated one."""

    network: CudaNetwork
    driver: EmulatedDriver | None

    @classmethod
    def open(cls, directory: Path, program: Program, device: int = 0) -> CudaProgram:
        """Return the ``program`` in ``directory`` on a device of this machine.

        Raises:
            OutputError: A file is missing or damaged.
            NoDeviceError: There is no driver, or no device for it.
            TargetError: The device fails.
        """
        return cls(CudaNetwork(directory, program, device=device, driver=DRIVER), None)

    @classmethod
    def emulate(cls, directory: Path, program: Program, target: GpuTarget) -> CudaProgram:
        """Return the ``program`` in ``directory``, whose text a CPU runs in the place of cubins.

        Where its host has another architecture, its entry is compiled for this machine.

        Raises:
            OutputError: A file is missing or damaged.
            TargetError: No C or C++ compiler is installed.
        """
        text = _text(directory / KERNELS)
        with temporary.folder() as folder:  # what is loaded needs no file any more
            path = emulated_driver(text, kernels_of(text), folder)
            driver = EmulatedDriver(path, target)
            if starts_here(target):
                return cls(CudaNetwork(directory, program, driver=str(path)), driver)
            _compile_for_here(directory, program, folder)
            return cls(CudaNetwork(folder, program, driver=str(path)), driver)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(output.name for output in self.network.outputs)

    @property
    def emulated(self) -> bool:
        """Whether a CPU runs it: then there are no latencies."""
        return self.driver is not None

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name; what the program leaves unwritten is ``UNWRITTEN``.

        Inputs and outputs are float32 by name, in the program's shapes.

        Raises:
            ValueError: An input has another shape or type than the program's.
            TargetError: The device fails.
        """
        with self._explaining():
            return dict(self.network.run_checked(*self._ordered(inputs)))

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every stored value by name: codes as uint8, outputs as float32.

        ``inputs`` are float32 by name; all have the program's shapes; errors are those of ``run``.
        """
        with self._explaining():
            return dict(self.network.trace(*self._ordered(inputs)))

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        """Return the milliseconds of ``count`` runs on the device, copies of ends not counted.

        ``inputs`` are float32 by name, in the program's shapes.

        Raises:
            TargetError: The program is emulated, or the device fails.
        """
        self._check_real()
        self.network.run(*self._ordered(inputs))
        return [self.network.time_ms(0, len(self.network.steps)) for _ in range(count)]

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Return the milliseconds of each step in ``count`` runs, by node.

        ``inputs`` are float32 by name, in the program's shapes. Nothing is flushed: a run reads
        the weights of all other layers between two runs of a step.

        Raises:
            TargetError: The program is emulated, or the device fails.
        """
        self._check_real()
        self.network.run(*self._ordered(inputs))
        names = [step.node for step in self.network.steps]
        spent: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(count):
            for index, name in enumerate(names):
                spent[name].append(self.network.time_ms(index, index + 1))
        return spent

    def close(self) -> None:
        """Free what the program holds."""
        self.network.close()
        if self.driver is not None:
            self.driver.close()

    def _explaining(self) -> AbstractContextManager[None]:
        return nullcontext() if self.driver is None else self.driver.explaining()

    def _check_real(self) -> None:
        if self.emulated:
            raise TargetError(
                f"target {self.network.target} is emulated, which gives no latency: "
                "measure on a machine with such a GPU"
            )

    def _ordered(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        return [inputs[spec.name] for spec in self.network.inputs]


def starts_here(target: GpuTarget) -> bool:
    """Return whether this machine has the architecture of the target's host."""
    return target.machine == host().machine


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read: compile again") from error


def _compile_for_here(directory: Path, program: Program, folder: Path) -> None:
    """Write ``model.so`` for this machine and an emulated driver, with its parameters."""
    source = _text(directory / ENTRY)
    emulated = ("-DGMPQ_EMULATED",)
    write_library(source, native(), folder, folder / LIBRARY, program.prefix, emulated)
    (folder / PARAMS).symlink_to((directory / PARAMS).absolute())


def kernels_of(text: str) -> dict[str, int]:
    """Return the number of parameters of each kernel that a CUDA text defines."""
    return {name: parameters.count(",") + 1 for name, parameters in KERNEL.findall(text)}
