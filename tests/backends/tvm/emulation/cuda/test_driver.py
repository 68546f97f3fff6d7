"""The library that plays CUDA's driver answers as the driver does, and counts what lives."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.cuda import library
from tests.support.gpu.cuda_kernels import Driver, load_text

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, INVALID_DEVICE = 0, 1, 2, 3, 101
INVALID_CONTEXT, INVALID_HANDLE, NOT_FOUND, NOT_READY = 201, 400, 500, 600
ILLEGAL_ADDRESS, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 700, 900, 901
NON_BLOCKING, THREAD_LOCAL, RELAXED = 1, 1, 2
ONE, ALL = (1, 1, 1), (8, 1, 1)
TEXT = """
extern "C" __global__ void twice(const int *x, int *y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }
extern "C" __global__ void plus(const int *x, int *y) { y[threadIdx.x] = 1 + x[threadIdx.x]; }
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("driver")
    load_text(TEXT, {"twice": 2, "plus": 2}, folder)
    return folder / library.NAME


@pytest.fixture
def driver(path: Path) -> Iterator[Driver]:
    found = Driver.load(path)
    with found.context():
        yield found
        found.set(late_streams=0, devices=1, capability=80)
        assert found.library.emulated_forget_failures() == 0
    assert found.counts.alive.keys() <= {"graphs", "executables"}  # which no context owns


def function(driver: Driver, name: str = "twice") -> int:
    module = driver.handle("cuModuleLoadData", ctypes.c_char_p(b"image"))
    return driver.handle("cuModuleGetFunction", module, ctypes.c_char_p(name.encode()))


def values(driver: Driver, address: int) -> list[int]:
    found = np.empty(8, np.int32)
    driver.download(address, found)
    return [int(each) for each in found]


def upload(driver: Driver) -> int:
    return driver.upload(np.arange(8, dtype=np.int32))


def test_the_device_is_described(driver: Driver) -> None:
    driver.set(devices=2, capability=87)
    name, count, major, minor = ctypes.create_string_buffer(64), *(ctypes.c_int() for _ in range(3))
    driver.call("cuDeviceGetCount", ctypes.byref(count))
    driver.call("cuDeviceGetName", name, 64, 1)
    driver.call("cuDeviceGetAttribute", ctypes.byref(major), 75, 0)
    driver.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, 0)
    assert (count.value, name.value, major.value, minor.value) == (2, b"emulated GPU 1", 8, 7)
    assert driver.code("cuDeviceGet", ctypes.byref(count), 2) == INVALID_DEVICE


def test_errors_have_names(driver: Driver) -> None:
    name = ctypes.c_char_p()
    driver.call("cuGetErrorName", OUT_OF_MEMORY, ctypes.byref(name))
    assert name.value == b"CUDA_ERROR_OUT_OF_MEMORY"
    assert driver.code("cuGetErrorName", 12345, ctypes.byref(name)) == INVALID_VALUE


def test_a_graph_replays_what_was_captured(driver: Driver) -> None:
    twice, plus, before = function(driver), function(driver, "plus"), driver.counts
    x, y, z = upload(driver), upload(driver), upload(driver)
    stream = driver.handle("cuStreamCreate", NON_BLOCKING)
    driver.call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
    assert driver.launch(twice, ONE, ALL, [x, y], stream) == SUCCESS
    assert driver.launch(plus, ONE, ALL, [y, z], stream) == SUCCESS
    end = ctypes.c_uint64()
    driver.call("cuStreamEndCapture", stream, ctypes.byref(end))
    executable = driver.handle("cuGraphInstantiateWithFlags", end.value, 0)
    driver.call("cuGraphDestroy", end.value)
    assert [*range(8)] == values(driver, z)
    for times in (1, 2):
        driver.call("cuMemsetD8_v2", x, times, 4)
        driver.call("cuGraphLaunch", executable, stream)
        driver.call("cuStreamSynchronize", stream)
        assert [2 * 0x01010101 * times + 1, *range(3, 17, 2)] == values(driver, z)
    driver.call("cuGraphExecDestroy", executable)
    after = driver.counts
    assert (
        after.launches - before.launches,
        after.graph_launches - before.graph_launches,
    ) == (4, 2)
    assert (after.graphs, after.executables) == (0, 0)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        pytest.param("cuMemAlloc_v2", CAPTURE_UNSUPPORTED, id="allocation"),
        pytest.param("cuStreamSynchronize", CAPTURE_UNSUPPORTED, id="wait"),
        pytest.param("cuMemFree_v2", CAPTURE_UNSUPPORTED, id="release"),
    ],
)
def test_what_a_capture_forbids_spoils_it(driver: Driver, call: str, code: int) -> None:
    stream, address, made = driver.handle("cuStreamCreate", 0), upload(driver), ctypes.c_uint64()
    driver.call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
    arguments = {
        "cuMemAlloc_v2": (ctypes.byref(made), 16),
        "cuStreamSynchronize": (stream,),
        "cuMemFree_v2": (address,),
    }
    assert code == driver.code(call, *arguments[call])
    assert driver.code("cuStreamEndCapture", stream, ctypes.byref(made)) == CAPTURE_INVALIDATED
    assert made.value == 0


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


def test_late_streams_work_when_somebody_waits(driver: Driver) -> None:
    driver.set(late_streams=1)
    kernel, x, y = function(driver), upload(driver), upload(driver)
    stream = driver.handle("cuStreamCreate", NON_BLOCKING)
    events = [driver.handle("cuEventCreate", 0) for _ in range(2)]
    host, took = np.full(8, -1, np.int32), ctypes.c_float()
    driver.call("cuEventRecord", events[0], stream)
    assert driver.launch(kernel, ONE, ALL, [x, y], stream) == SUCCESS
    pointer = ctypes.c_void_p(host.ctypes.data)
    driver.call("cuMemcpyDtoHAsync_v2", pointer, y, 32, stream)
    driver.call("cuEventRecord", events[1], stream)
    assert driver.code("cuEventElapsedTime", ctypes.byref(took), *events) == NOT_READY
    assert driver.code("cuStreamQuery", stream) == NOT_READY
    assert ([*range(8)], {-1}) == (values(driver, y), set(host.tolist()))
    driver.call("cuEventSynchronize", events[1])
    assert [*range(0, 16, 2)] == host.tolist()
    driver.call("cuStreamQuery", stream)
    driver.call("cuEventElapsedTime", ctypes.byref(took), *events)
    assert took.value >= 0


def test_work_on_memory_that_was_freed_meanwhile_fails(driver: Driver) -> None:
    kernel, x = function(driver), upload(driver)
    stream, graph = driver.handle("cuStreamCreate", 0), ctypes.c_uint64()
    driver.call("cuStreamBeginCapture_v2", stream, RELAXED)
    assert driver.launch(kernel, ONE, ALL, [x, x], stream) == SUCCESS
    driver.call("cuStreamEndCapture", stream, ctypes.byref(graph))
    executable = driver.handle("cuGraphInstantiateWithFlags", graph.value, 0)
    driver.call("cuMemFree_v2", x)
    assert driver.code("cuGraphLaunch", executable, stream) == ILLEGAL_ADDRESS
    driver.call("cuGraphExecDestroy", executable)
    driver.call("cuGraphDestroy", graph.value)


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
