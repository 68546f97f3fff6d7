"""Running a table of launches through the driver's functions alone, without the C entry."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.codegen.launches import LaunchTable, Place
from tests.support.gpu.cuda_kernels import Driver, DriverError


def run_table(
    driver: Driver, table: LaunchTable, params: bytes, inputs: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Return the outputs, flat, of a network whose kernels the driver has.

    Raises:
        DriverError: A launch fails; its message says which kernel did what.
    """
    assert [array.nbytes for array in inputs] == list(table.input_bytes)
    outputs = [np.empty(size // 4, np.float32) for size in table.output_bytes]
    with driver.context():
        module = driver.handle("cuModuleLoadData", ctypes.c_char_p(b"image"))
        functions = {
            name: driver.handle("cuModuleGetFunction", module, ctypes.c_char_p(name.encode()))
            for name in table.kernels
        }
        memories = {
            Place.PARAMS: [driver.upload(np.frombuffer(params, np.uint8))],
            Place.WORKSPACE: [driver.handle("cuMemAlloc_v2", max(table.workspace_bytes, 1))],
            Place.INPUT: [driver.upload(np.ascontiguousarray(array)) for array in inputs],
            Place.OUTPUT: [driver.upload(array) for array in outputs],
        }
        for launch in (launch for step in table.steps for launch in step):
            addresses = [
                memories[each.place][each.index] + each.offset for each in launch.arguments
            ]
            block = (launch.threads, 1, 1)
            code = driver.launch(functions[launch.kernel], launch.grid, block, addresses)
            if code:
                raise DriverError("cuLaunchKernel", code, driver.message)
        for address, output in zip(memories[Place.OUTPUT], outputs, strict=True):
            driver.download(address, output)
    return outputs
