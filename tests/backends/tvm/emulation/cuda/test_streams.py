"""Streams, graphs and events of the emulated driver."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.cuda import library
from tests.support.gpu.cuda_kernels import Driver
from tests.support.gpu.small_kernels import (
    ALL,
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    ILLEGAL_ADDRESS,
    NON_BLOCKING,
    NOT_READY,
    ONE,
    RELAXED,
    SUCCESS,
    THREAD_LOCAL,
    function,
    upload,
    values,
)

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))


def test_the_environment_makes_streams_late(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMPQ_LATE_STREAMS", "1")
    driver = Driver.load(Path(shutil.copy(path, tmp_path / "late.so")))
    with driver.context():
        stream, x, y = driver.handle("cuStreamCreate", 1), upload(driver), upload(driver)
        assert driver.launch(function(driver), ONE, ALL, [x, y], stream) == SUCCESS
        assert values(driver, y) == [*range(8)]
        driver.call("cuCtxSynchronize")
        assert values(driver, y) == [*range(0, 16, 2)]


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
