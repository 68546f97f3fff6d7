"""The library that plays CUDA's driver answers as the driver does, and counts what lives."""

from __future__ import annotations

import ctypes
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.cuda import library
from tests.support.gpu.cuda_kernels import Driver, load_text
from tests.support.gpu.small_kernels import (
    ALL,
    ILLEGAL_ADDRESS,
    INVALID_CONTEXT,
    INVALID_DEVICE,
    INVALID_HANDLE,
    INVALID_VALUE,
    NO_DEVICE,
    NOT_FOUND,
    NOT_INITIALIZED,
    ONE,
    OUT_OF_MEMORY,
    SUCCESS,
    TEXT,
    function,
    upload,
)

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))


def test_the_device_is_described(driver: Driver) -> None:
    driver.set(devices=2, capability=87)
    name, count, major, minor = ctypes.create_string_buffer(64), *(ctypes.c_int() for _ in range(3))
    driver.call("cuDeviceGetCount", ctypes.byref(count))
    driver.call("cuDeviceGetName", name, 64, 1)
    driver.call("cuDeviceGetAttribute", ctypes.byref(major), 75, 0)
    driver.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, 0)
    assert (count.value, name.value, major.value, minor.value) == (2, b"emulated GPU 1", 8, 7)
    assert driver.code("cuDeviceGet", ctypes.byref(count), 2) == INVALID_DEVICE


def test_a_machine_without_devices_is_not_initialized(path: Path, tmp_path: Path) -> None:
    driver = Driver.load(Path(shutil.copy(path, tmp_path / "other.so")))
    driver.set(devices=0)
    assert driver.code("cuInit", 0) == NO_DEVICE
    driver.set(devices=1)
    assert driver.code("cuInit", 0) == SUCCESS


def test_each_thread_has_a_stack_of_contexts(driver: Driver) -> None:
    own, found = driver.handle("cuCtxGetCurrent"), []

    def another() -> None:
        made = ctypes.c_uint64()
        found.append(driver.code("cuMemAlloc_v2", ctypes.byref(made), 16))
        driver.call("cuCtxPushCurrent_v2", own)
        found.append(driver.code("cuMemAlloc_v2", ctypes.byref(made), 16))
        driver.call("cuCtxPopCurrent_v2", ctypes.byref(made))
        found.extend([made.value, driver.handle("cuCtxGetCurrent")])
        found.append(driver.code("cuCtxPopCurrent_v2", None))

    thread = threading.Thread(target=another)
    thread.start()
    thread.join()
    assert found == [INVALID_CONTEXT, SUCCESS, own, 0, INVALID_CONTEXT]


def test_errors_have_names(driver: Driver) -> None:
    name = ctypes.c_char_p()
    driver.call("cuGetErrorName", OUT_OF_MEMORY, ctypes.byref(name))
    assert name.value == b"CUDA_ERROR_OUT_OF_MEMORY"
    assert driver.code("cuGetErrorName", 12345, ctypes.byref(name)) == INVALID_VALUE


def test_handles_that_are_not_alive_are_refused(driver: Driver) -> None:
    stream, event = driver.handle("cuStreamCreate", 0), driver.handle("cuEventCreate", 0)
    kernel, address = function(driver), upload(driver)
    driver.call("cuStreamDestroy_v2", stream)
    driver.call("cuEventDestroy_v2", event)
    driver.call("cuMemFree_v2", address)
    assert driver.code("cuStreamDestroy_v2", stream) == INVALID_HANDLE
    assert driver.code("cuStreamSynchronize", stream) == INVALID_HANDLE
    assert driver.launch(kernel, ONE, ALL, [address, address], stream) == INVALID_HANDLE
    assert driver.code("cuEventRecord", event, 0) == INVALID_HANDLE
    assert driver.code("cuMemFree_v2", address) == INVALID_VALUE
    assert driver.code("cuMemFree_v2", 4096) == INVALID_VALUE
    assert (
        driver.code("cuMemcpyDtoH_v2", ctypes.create_string_buffer(4), address, 4) == INVALID_VALUE
    )
    assert driver.launch(kernel, ONE, ALL, [address, address]) == ILLEGAL_ADDRESS
    assert "parameter 0 is no memory of the device" in driver.message
    assert driver.code("cuModuleUnload", 77) == INVALID_HANDLE
    assert driver.code("cuGraphDestroy", 77) == INVALID_VALUE


def test_a_function_ends_with_its_module(driver: Driver) -> None:
    module = driver.handle("cuModuleLoadData", ctypes.c_char_p(b"image"))
    kernel = driver.handle("cuModuleGetFunction", module, ctypes.c_char_p(b"twice"))
    made = ctypes.c_uint64()
    unknown = ctypes.c_char_p(b"thrice")
    assert driver.code("cuModuleGetFunction", ctypes.byref(made), module, unknown) == NOT_FOUND
    driver.call("cuModuleUnload", module)
    address = upload(driver)
    assert driver.launch(kernel, ONE, ALL, [address, address]) == INVALID_HANDLE


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [
        pytest.param((1, 1, 1), (1025, 1, 1), 0, id="threads"),
        pytest.param((1, 1, 1), (64, 32, 1), 0, id="threads of two axes"),
        pytest.param((1, 1, 1), (0, 1, 1), 0, id="no thread"),
        pytest.param((1, 65536, 1), (1, 1, 1), 0, id="blocks"),
        pytest.param((1, 1, 0), (1, 1, 1), 0, id="no block"),
        pytest.param((1, 1, 1), (1, 1, 1), 49153, id="shared memory"),
    ],
)
def test_launches_have_limits(
    driver: Driver, grid: tuple[int, int, int], block: tuple[int, int, int], shared: int
) -> None:
    values = [ctypes.c_uint64(upload(driver)) for _ in range(2)]
    pointers = (ctypes.c_void_p * 2)(*map(ctypes.addressof, values))
    arguments = (*grid, *block, shared, 0, pointers, None)
    assert driver.code("cuLaunchKernel", function(driver), *arguments) == INVALID_VALUE


def test_more_shared_memory_needs_the_attribute(driver: Driver) -> None:
    kernel, address = function(driver), ctypes.c_uint64(upload(driver))
    pointers = (ctypes.c_void_p * 2)(*[ctypes.addressof(address)] * 2)
    assert driver.code("cuFuncSetAttribute", kernel, 8, 1 << 20) == INVALID_VALUE
    driver.call("cuFuncSetAttribute", kernel, 8, 64 << 10)
    driver.call("cuLaunchKernel", kernel, *ONE, *ALL, 64 << 10, 0, pointers, None)


def test_a_parameter_that_is_missing_is_refused(driver: Driver) -> None:
    assert driver.launch(function(driver), ONE, ALL, [upload(driver)]) == INVALID_VALUE


def test_copies_stay_within_a_memory(driver: Driver) -> None:
    address, host = upload(driver), np.zeros(16, np.int32)
    pointer = ctypes.c_void_p(host.ctypes.data)
    assert driver.code("cuMemcpyHtoD_v2", address, pointer, 33) == INVALID_VALUE
    assert driver.code("cuMemcpyHtoD_v2", address + 4, pointer, 32) == INVALID_VALUE
    assert driver.code("cuMemcpyDtoHAsync_v2", pointer, address, 33, 0) == INVALID_VALUE
    assert driver.code("cuMemcpyHtoD_v2", address, address, 8) == INVALID_VALUE
    assert driver.code("cuMemsetD8_v2", address, 0, 33) == INVALID_VALUE
    driver.call("cuMemcpyHtoD_v2", address + 4, pointer, 28)
    assert address % 256 == 0


def test_every_function_fails_once_on_request(driver: Driver) -> None:
    made = ctypes.c_uint64()
    driver.fail("cuMemAlloc", OUT_OF_MEMORY, skipped=1)
    driver.fail("cuStreamCreate", 999)
    codes = [driver.code("cuMemAlloc_v2", ctypes.byref(made), 16) for _ in range(3)]
    assert codes == [SUCCESS, OUT_OF_MEMORY, SUCCESS]
    codes = [driver.code("cuStreamCreate", ctypes.byref(made), 0) for _ in range(2)]
    assert codes == [999, SUCCESS]
    assert driver.counts.alive == {"allocations": 2, "streams": 1, "contexts": 1}


def test_what_is_alive_is_counted_and_ends_with_the_context(path: Path) -> None:
    driver = Driver.load(path)
    with driver.context():
        driver.handle("cuEventCreate", 0)
        function(driver)
        upload(driver)
        alive = {"allocations": 1, "modules": 1, "events": 1, "contexts": 1}
        assert alive == driver.counts.alive
    assert driver.counts.alive == {}
    assert driver.code("cuStreamSynchronize", 0) == 709  # CONTEXT_IS_DESTROYED
    driver.call("cuCtxSetCurrent", 0)
    assert driver.code("cuStreamSynchronize", 0) == INVALID_CONTEXT


def test_nothing_works_before_cuinit(tmp_path: Path) -> None:
    driver, count = load_text(TEXT, {"twice": 2}, tmp_path), ctypes.c_int()
    assert driver.code("cuDeviceGetCount", ctypes.byref(count)) == NOT_INITIALIZED
    assert driver.code("cuMemFree_v2", 0) == NOT_INITIALIZED
