"""Running a kernel of a CUDA text on arrays, through the library that plays CUDA's driver."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.emulation.cuda.library import emulated_driver

Array = NDArray[np.generic]
Size = tuple[int, int, int]


class DriverError(Exception):
    """A function of the driver failed: ``code`` is CUDA's."""

    def __init__(self, function: str, code: int, message: str) -> None:
        super().__init__(f"{function}: {code}: {message}")
        self.function, self.code, self.message = function, code, message


@dataclass(frozen=True, slots=True)
class Counts:
    """What is alive, then what has run: the order of ``emulated_counts``."""

    allocations: int
    modules: int
    graphs: int
    executables: int
    streams: int
    events: int
    contexts: int
    launches: int
    graph_launches: int

    @property
    def alive(self) -> dict[str, int]:
        """What was made and not destroyed."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)[:-2]}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Driver:
    """An emulated driver in this process."""

    library: ctypes.CDLL

    @classmethod
    def load(cls, path: Path) -> Driver:
        """Return the driver in the file ``path``."""
        library = ctypes.CDLL(str(path))
        library.emulated_message.restype = ctypes.c_char_p
        return cls(library)

    @property
    def message(self) -> str:
        """The last mistake of a kernel."""
        return str(self.library.emulated_message().decode())

    @property
    def counts(self) -> Counts:
        """What is alive and what has run."""
        numbers = (ctypes.c_longlong * len(fields(Counts)))()
        self.library.emulated_counts(numbers)
        return Counts(*numbers)

    def code(self, function: str, *arguments: object) -> int:
        """Return what a function of the driver returns; integers are passed as 64 bits."""
        words = [ctypes.c_uint64(each) if isinstance(each, int) else each for each in arguments]
        return int(self.library[function](*words))

    def call(self, function: str, *arguments: object) -> None:
        """Call a function that must succeed.

        Raises:
            DriverError: It does not.
        """
        code = self.code(function, *arguments)
        if code:
            raise DriverError(function, code, self.message)

    def handle(self, function: str, *arguments: object) -> int:
        """Return the handle, address or number that a function writes by its first argument.

        Raises:
            DriverError: It fails.
        """
        made = ctypes.c_uint64()
        self.call(function, ctypes.byref(made), *arguments)
        return made.value

    def set(self, **settings: int) -> None:
        """Change settings of ``emulated_set``."""
        for name, value in settings.items():
            assert self.library.emulated_set(name.encode(), ctypes.c_int(value)) == 0, name

    def fail(self, function: str, code: int, skipped: int = 0) -> None:
        """Let a later call of ``function`` (without _v2), after ``skipped`` others, fail once."""
        self.library.emulated_fail_after(
            function.encode(), ctypes.c_int(skipped), ctypes.c_int(code)
        )

    @contextmanager
    def context(self) -> Iterator[None]:
        """Hold the primary context of the first device, as this thread's own."""
        self.call("cuInit", 0)
        self.call("cuCtxSetCurrent", self.handle("cuDevicePrimaryCtxRetain", 0))
        try:
            yield
        finally:
            self.call("cuDevicePrimaryCtxRelease_v2", 0)

    def upload(self, array: Array) -> int:
        """Return the address of new device memory that holds the bytes of ``array``."""
        address = self.handle("cuMemAlloc_v2", max(array.nbytes, 1))
        self.call("cuMemcpyHtoD_v2", address, ctypes.c_void_p(array.ctypes.data), array.nbytes)
        return address

    def download(self, address: int, array: Array) -> None:
        """Fill ``array`` from the device's memory."""
        self.call("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), address, array.nbytes)

    def launch(
        self, function: int, grid: Size, block: Size, addresses: Sequence[int], stream: int = 0
    ) -> int:
        """Return the code of a launch whose parameters are pointers."""
        values = [ctypes.c_uint64(address) for address in addresses]
        pointers = (ctypes.c_void_p * (len(values) + 1))(*map(ctypes.addressof, values), None)
        return self.code("cuLaunchKernel", function, *grid, *block, 0, stream, pointers, None)


def run_kernel(
    driver: Driver, name: str, grid: Size, block: Size, arrays: Sequence[Array]
) -> list[Array]:
    """Return what the ``arrays``, the kernel's parameters, hold after a launch.

    Raises:
        DriverError: The launch fails; its message says what the kernel did.
    """
    with driver.context():
        module = driver.handle("cuModuleLoadData", ctypes.c_char_p(b"image"))
        function = driver.handle("cuModuleGetFunction", module, ctypes.c_char_p(name.encode()))
        addresses = [driver.upload(np.ascontiguousarray(array)) for array in arrays]
        code = driver.launch(function, grid, block, addresses)
        if code:
            raise DriverError("cuLaunchKernel", code, driver.message)
        driver.call("cuCtxSynchronize")
        results = [np.empty_like(array, order="C") for array in arrays]
        for address, result in zip(addresses, results, strict=True):
            driver.download(address, result)
        return results


def load_text(text: str, kernels: Mapping[str, int], folder: Path) -> Driver:
    """Return the driver whose modules hold the kernels of a CUDA text.

    Raises:
        TargetError: It cannot be compiled.
    """
    return Driver.load(emulated_driver(text, kernels, folder))
