"""A kernel's mistake fails its launch, with a message; the driver goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.cuda import library
from gmpq.errors import TargetError
from tests.support.gpu.cuda_kernels import Driver, DriverError, load_text, run_kernel

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

ILLEGAL_ADDRESS, MISALIGNED_ADDRESS, LAUNCH_FAILED = 700, 716, 719
BODIES = {  # by name: what threads of two warps do with 256 words, the code, and the message
    "missed_barrier": (
        "if (t < 40) __syncthreads();",
        *(LAUNCH_FAILED, "40 of 64 threads reach a barrier"),
    ),
    "different_collectives": (
        "if (t % 32 < 3) __syncwarp(); else x[t] = __shfl_xor_sync(0xffffffffu, x[t], 1);",
        *(LAUNCH_FAILED, "warp 0: lanes meet in different collectives"),
    ),
    "missed_collective": (
        "if (t != 37) x[t] = __shfl_xor_sync(0xffffffffu, x[t], 1);",
        *(LAUNCH_FAILED, "warp 1: 31 of 32 lanes reach a collective"),
    ),
    "barrier_for_collective": (
        "if (t == 3) __syncthreads(); else __syncwarp();",
        *(LAUNCH_FAILED, "warp 0: 31 of 32 lanes reach a collective"),
    ),
    "some_lanes": (
        "x[t] = __shfl_xor_sync(0xffffu, x[t], 1);",
        *(LAUNCH_FAILED, "thread 0: a collective of the lanes 0x0000ffff"),
    ),
    "unaligned_rows": (
        "unsigned r; emulated_ldmatrix_x4(r, r, r, r, &held[1]);",
        *(MISALIGNED_ADDRESS, "ldmatrix of an address that is not aligned to 16 bytes"),
    ),
    "global_rows": (
        "unsigned r; emulated_ldmatrix_x4(r, r, r, r, x);",
        *(ILLEGAL_ADDRESS, "ldmatrix of an address outside of shared memory"),
    ),
    "unaligned_copy": (
        "if (t == 9) emulated_copy16(held, x + 2);",
        *(MISALIGNED_ADDRESS, "thread 9: cp.async of addresses that are not aligned to 16 bytes"),
    ),
    "unaligned_halves": (
        "emulated_copy8x2(held + 1, x);",
        *(MISALIGNED_ADDRESS, "cp.async of addresses that are not aligned to 8 bytes"),
    ),
    "copy_to_global": (
        "emulated_copy16(x, x + 4);",
        *(ILLEGAL_ADDRESS, "cp.async to an address outside of shared memory"),
    ),
    "copy_from_shared": (
        "emulated_copy16(held, held + 4);",
        *(ILLEGAL_ADDRESS, "cp.async from shared memory"),
    ),
    "unaligned_vector": (
        "*(int4 *)(x + t) = make_int4(1, 2, 3, 4);",
        *(
            MISALIGNED_ADDRESS,
            "thread 1: line LINE: an access of 'struct int4' is not aligned to 16 bytes",
        ),
    ),
    "index_beyond_shared": (
        "held[t + 1] = x[t];",
        *(ILLEGAL_ADDRESS, "thread 63: line LINE: index 64 is outside of 'int [64]'"),
    ),
    "read_beyond": (
        "x[t] = x[t + 193];",
        *(ILLEGAL_ADDRESS, "thread 63: an access 0 bytes after the end of a memory of 1024 bytes"),
    ),
    "write_beyond": (
        "y[t] = 3;",
        *(ILLEGAL_ADDRESS, "an access 0 bytes after the end of a memory of 252 bytes"),
    ),
    "write_before": (
        "if (t == 0) x[-2] = 3;",
        *(ILLEGAL_ADDRESS, "an access 8 bytes before a memory of 1024 bytes"),
    ),
    "no_memory": (
        "x[t] = *(int *)(16 * (size_t)x[0]);",
        *(ILLEGAL_ADDRESS, "an access of no memory of the device"),
    ),
    "deep_stack": (
        "volatile int own[20000]; for (int i = 20000; i--;) own[i] = x[0]; x[t] = own[t];",
        *(ILLEGAL_ADDRESS, "more than 65536 bytes of local memory"),
    ),
}
TEXT = "".join(
    f'extern "C" __global__ void {name}(int *x, int *y) '
    f"{{ __shared__ alignas(16) int held[64]; int t = threadIdx.x; {body} }}\n"
    for name, (body, *_) in BODIES.items()
)
TEXT += 'extern "C" __global__ void good(int *x) { x[threadIdx.x] += blockIdx.x; }\n'


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    folder: Path = tmp_path_factory.mktemp("mistakes")
    return load_text(TEXT, {**dict.fromkeys(BODIES, 2), "good": 1}, folder)


@pytest.mark.parametrize("name", BODIES)
def test_a_mistake_fails_the_launch(driver: Driver, name: str) -> None:
    _, code, wanted = BODIES[name]
    line = 1 + list(BODIES).index(name)
    arrays = [np.zeros(256, np.int32), np.zeros(63, np.int32)]
    with pytest.raises(DriverError) as caught:
        run_kernel(driver, name, (1, 1, 1), (64, 1, 1), arrays)
    assert code == caught.value.code
    assert f"kernel {name}" in caught.value.message
    assert wanted.replace("LINE", str(line)) in caught.value.message
    assert driver.counts.alive == {}
    (result,) = run_kernel(driver, "good", (2, 1, 1), (4, 1, 1), [np.arange(4, dtype=np.int32)])
    np.testing.assert_array_equal(np.arange(4) + 1, result)


def test_a_text_that_is_no_cuda_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot make kernels.o: .*nonsense") as caught:
        load_text("nonsense;\n", {}, tmp_path)
    assert "\n" not in str(caught.value)


def test_another_number_of_parameters_is_refused(tmp_path: Path) -> None:
    text = 'extern "C" __global__ void one(int *x) { *x = 1; }\n'
    with pytest.raises(TargetError, match="the kernel has another number of parameters"):
        load_text(text, {"one": 2}, tmp_path)


def test_without_a_compiler_the_cure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"'g\+\+' not found, install it"):
        load_text("", {}, tmp_path)
