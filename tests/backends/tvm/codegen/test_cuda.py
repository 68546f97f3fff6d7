"""The C entry of programs for GPUs, on the library that plays the driver."""

from __future__ import annotations

import ctypes
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.cuda_table import ENTRY_SOURCE
from gmpq.backends.tvm.codegen.form import KERNELS, Form
from gmpq.backends.tvm.codegen.toolchain import find_toolchain
from gmpq.backends.tvm.emulation.cuda.library import emulated_driver
from gmpq.backends.tvm.emulation.cuda.program import CudaProgram, kernels_of
from gmpq.backends.tvm.emulation.open import open_compiled
from gmpq.backends.tvm.target import GpuTarget, find
from gmpq.backends.tvm.target.gpu import host_of
from gmpq.errors import TargetError
from gmpq.ir import IntGraph
from gmpq.program import Program
from gmpq.runtime.cuda import CudaNetwork, NoDeviceError
from tests.support.gpu.cuda_kernels import Driver
from tests.support.gpu.layers import emulated, random_layer

pytestmark = emulated
TARGET = find("cuda-sm_80")
FAILURE = 700  # CUDA_ERROR_ILLEGAL_ADDRESS
FUNCTIONS = re.findall(r"^  X\((cu\w+), ", ENTRY_SOURCE.read_text(), re.MULTILINE)
OF_RUNS = ("cuMemcpyDtoHAsync", "cuGraphLaunch")
OF_TIMES = ("cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime")
OF_VALUES = ("cuMemsetD8Async",)
OF_BOTH = ("cuMemcpyHtoDAsync", "cuStreamSynchronize")  # to open and to run
UNASKED = (  # what frees, where nothing can be done about a failure, and what names failures
    *("cuDevicePrimaryCtxRelease", "cuModuleUnload", "cuMemFree", "cuStreamDestroy"),
    *("cuGraphDestroy", "cuGraphExecDestroy", "cuEventDestroy", "cuGetErrorName"),
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A network, and a driver that runs its kernels."""

    graph: IntGraph
    folder: Path
    program: Program
    path: Path
    driver: Driver

    def open(self, device: int = 0) -> CudaNetwork:
        return CudaNetwork(self.folder, self.program, device=device, driver=str(self.path))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    graph = random_layer(np.random.default_rng(3), (8, 8))
    folder = tmp_path_factory.mktemp("network")
    program = build(graph, TARGET, folder).program
    text = (folder / KERNELS).read_text()
    path = emulated_driver(text, kernels_of(text), tmp_path_factory.mktemp("driver"))
    driver = Driver.load(path)
    driver.set(capability=80)
    return Compiled(graph, folder, program, path, driver)


@pytest.fixture
def image(compiled: Compiled) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-9, 200, compiled.graph.values["image"].shape).astype(np.float32)


def test_runs_of_the_graph_equal_the_reference(compiled: Compiled, image: np.ndarray) -> None:
    with compiled.open() as network:
        for times in (1, 2):
            expected = reference.run(compiled.graph, {"image": image * times})
            for name, found in network.run_checked(image * times):
                np.testing.assert_array_equal(found, expected[name])
    assert compiled.driver.counts.alive == {}


def test_two_networks_are_open_at_once(compiled: Compiled, image: np.ndarray) -> None:
    with compiled.open() as one, compiled.open() as two:
        first, second = (network.run(x) for network, x in ((one, image), (two, 2 * image)))
        for network, x, expected in ((one, 2 * image, second), (two, image, first)):
            for found, each in zip(network.run(x), expected, strict=True):
                np.testing.assert_array_equal(found, each)
    assert compiled.driver.counts.alive == {}


def test_a_run_takes_device_memory_and_a_stream(compiled: Compiled, image: np.ndarray) -> None:
    driver, network = compiled.driver, compiled.open()
    expected = network.run(image)
    outputs = [np.empty(spec.shape, np.float32) for spec in network.outputs]
    with driver.context():
        inputs = (ctypes.c_uint64 * 1)(driver.upload(image))
        memories = (ctypes.c_uint64 * 2)(*(driver.upload(array) for array in outputs))
        network._try("run_on", network._network, ctypes.c_void_p(), inputs, memories)
        for address, output in zip(memories, outputs, strict=True):
            driver.download(address, output)
            driver.call("cuMemFree_v2", address)
        driver.call("cuMemFree_v2", inputs[0])
    for found, each in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(found, each)
    network.close()


def test_every_function_of_the_driver_is_tried() -> None:
    known = {name.removesuffix("_v2") for name in FUNCTIONS}
    assert {*OF_RUNS, *OF_TIMES, *OF_VALUES, *UNASKED} < known


@pytest.mark.parametrize(
    "name",
    sorted(
        {name.removesuffix("_v2") for name in FUNCTIONS}
        - {*OF_RUNS, *OF_TIMES, *OF_VALUES, *UNASKED, "cuCtxPopCurrent"}
    ),
)
def test_a_failure_to_open_is_named_and_leaves_nothing(compiled: Compiled, name: str) -> None:
    compiled.driver.fail(name, FAILURE)
    with pytest.raises(TargetError, match=rf"model.so: {name}\w*: CUDA_ERROR_ILLEGAL_ADDRESS"):
        compiled.open()
    assert compiled.driver.counts.alive == {}


@pytest.mark.parametrize("name", [*OF_RUNS, *OF_VALUES, *OF_TIMES, *OF_BOTH])
def test_a_failure_of_a_run_is_named(compiled: Compiled, image: np.ndarray, name: str) -> None:
    with compiled.open() as network:
        compiled.driver.fail(name, FAILURE)
        with pytest.raises(TargetError, match=rf"{name}\w*: CUDA_ERROR_ILLEGAL_ADDRESS"):
            _everything(network, image)
        network.run(image)  # it can be used again
    assert compiled.driver.counts.alive == {}


def _everything(network: CudaNetwork, image: np.ndarray) -> None:
    network.run_checked(image)
    list(network.trace(image))
    network.time_ms(0, len(network.steps))


def test_what_is_not_here_is_said(compiled: Compiled) -> None:
    with pytest.raises(NoDeviceError, match="no NVIDIA driver on this machine: libnone"):
        CudaNetwork(compiled.folder, compiled.program, driver="libnone.so.1")
    with pytest.raises(NoDeviceError, match="no device 1: this machine has 1"):
        compiled.open(device=1)
    compiled.driver.set(capability=75)
    try:
        with pytest.raises(NoDeviceError, match="compiled for sm_80: this device is sm_75"):
            compiled.open()
    finally:
        compiled.driver.set(capability=80)
    compiled.driver.set(capability=86)  # runs what is compiled for 8.0
    compiled.open().close()
    compiled.driver.set(capability=80)
    assert compiled.driver.counts.alive == {}


def test_a_program_for_another_host_is_emulated(tmp_path: Path, image: np.ndarray) -> None:
    target, graph = find("cuda-sm_87"), random_layer(np.random.default_rng(3), (8, 8))
    assert isinstance(target, GpuTarget)
    try:
        find_toolchain(host_of(target))
    except TargetError as error:
        pytest.skip(str(error))
    compiled = open_compiled(tmp_path, build(graph, target, tmp_path).program, target)
    assert isinstance(compiled, CudaProgram)
    assert compiled.emulated
    expected = reference.run(graph, {"image": image})
    for name, found in compiled.trace({"image": image}).items():
        np.testing.assert_array_equal(found, expected[name])
    compiled.close()


def test_headers_of_two_networks_fit_into_one_program(tmp_path: Path) -> None:
    graph = random_layer(np.random.default_rng(3), (8, 8))
    for prefix in ("one", "two"):
        (tmp_path / prefix).mkdir()
        build(graph, TARGET, tmp_path / prefix, form=Form(prefix=prefix))
    (tmp_path / "both.c").write_text(
        '#include "one/model.h"\n#include "two/model.h"\n'
        "int (*run[])(one_network *, const float *const *, float *const *) = {one_run};\n"
        "enum { STEPS = ONE_STEPS + TWO_STEPS };\n"
    )
    flags = ("-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only")
    subprocess.run(["cc", *flags, "both.c"], cwd=tmp_path, check=True)
