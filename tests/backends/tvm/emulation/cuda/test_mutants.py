"""The emulation notices mistakes of a pipelined product on tensor cores, made one at a time."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.cuda import library
from tests.support.gpu.cuda_kernels import DriverError, load_text, run_kernel

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

STEPS, BLOCKS = 7, 2
TEXT = """
#include <cuda.h>
__device__ __forceinline__ void issue(
    unsigned char *slot, const unsigned char *a, const signed char *b, int step) {
  int t = threadIdx.x, row = t / 2, piece = t % 2;
  emulated_copy16(slot + row * 32 + (piece ^ (row / 4 % 2)) * 16,
                  a + ((blockIdx.x * 32 + row) * 7 + step) * 32 + piece * 16);
  if (t < 16) emulated_copy16(slot + 1024 + t * 16, b + (row * 7 + step) * 32 + piece * 16);
}
extern "C" __global__ void __launch_bounds__(64) product(
    const unsigned char *__restrict__ a, const signed char *__restrict__ b, int *__restrict__ c) {
  __shared__ alignas(16) unsigned char slots[3][1280];  // 32 rows of a, 8 columns of b
  int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16, sums[4] = {0, 0, 0, 0};
  for (int step = 0; step < 2; step++) {
    issue(slots[step], a, b, step);
    emulated_commit();
  }
  for (int step = 0; step < 7; step++) {
    emulated_wait(1);
    __syncthreads();
    if (step + 2 < 7) issue(slots[(step + 2) % 3], a, b, step + 2);
    emulated_commit();
    unsigned char *slot = slots[step % 3];
    unsigned r[4];
    int row = first + lane % 16, piece = lane / 16;
    emulated_ldmatrix_x4(r[0], r[1], r[2], r[3], slot + row * 32 + (piece ^ (row / 4 % 2)) * 16);
    const unsigned *column = (const unsigned *)(slot + 1024 + lane / 4 * 32 + lane % 4 * 4);
    emulated_mma_u8s8(
        sums[0], sums[1], sums[2], sums[3], r[0], r[1], r[2], r[3], column[0], column[4]);
  }
  int *to = c + (blockIdx.x * 32 + first + lane / 4) * 8 + lane % 4 * 2;
  *(int2 *)to = make_int2(sums[0], sums[1]);
  *(int2 *)(to + 64) = make_int2(sums[2], sums[3]);
}
"""
CONDITIONS = tuple(product((0, 1), repeat=2))  # late copies, the last warp first
MUTANTS = {  # what is replaced, by what, and in which conditions it must show
    "no barrier": ("__syncthreads();", "", CONDITIONS),
    "a wait for too little": ("emulated_wait(1)", "emulated_wait(2)", ((1, 0), (1, 1))),
    "a barrier before the wait": (
        "emulated_wait(1);\n    __syncthreads();",
        "__syncthreads();\n    emulated_wait(1);",
        ((1, 1),),  # the first warp copies what the last one needs
    ),
    "a slot too few": ("(step + 2) % 3]", "(step + 2) % 2]", CONDITIONS),
    "a group that is not committed": (
        "if (step + 2 < 7) issue(slots[(step + 2) % 3], a, b, step + 2);\n    emulated_commit();",
        "if (step + 2 < 7) issue(slots[(step + 2) % 3], a, b, step + 2);",
        ((1, 0), (1, 1)),
    ),
    "another swizzle": (
        "slot + row * 32 + (piece ^ (row / 4",
        "slot + row * 32 + (piece ^ (row / 8",
        CONDITIONS,
    ),
    "rows of the other warp": ("row = first + lane", "row = 16 - first + lane", CONDITIONS),
    "fragments of b exchanged": ("column[0], column[4]", "column[4], column[0]", CONDITIONS),
    "results exchanged": ("make_int2(sums[0], sums[1])", "make_int2(sums[1], sums[0])", CONDITIONS),
    "a lane too few": ("    emulated_ldmatrix", "    if (lane != 9) emulated_ldmatrix", CONDITIONS),
    "a copy beyond the end": ("* 7 + step) * 32 + piece", "* 8 + step) * 32 + piece", CONDITIONS),
    "an unaligned copy": ("piece * 16);\n  if", "piece * 8);\n  if", CONDITIONS),
    "an unaligned store": ("(to + 64)", "(to + 65)", CONDITIONS),
}


def wrong(text: str, folder: Path) -> set[tuple[int, int]]:
    """Return the conditions in which the kernel's sums are not numpy's, or its launch fails."""
    driver, rng, found = load_text(text, {"product": 3}, folder), np.random.default_rng(1), set()
    a = rng.integers(0, 256, (32 * BLOCKS, 32 * STEPS), np.uint8)
    b = rng.integers(-128, 128, (8, 32 * STEPS), np.int8)
    sums = a.astype(np.int32) @ b.astype(np.int32).T
    for late, backwards in CONDITIONS:
        driver.set(late_copies=late, backwards=backwards)
        try:
            arrays = [a, b, np.zeros_like(sums)]
            result = run_kernel(driver, "product", (BLOCKS, 1, 1), (64, 1, 1), arrays)[2]
        except DriverError:
            found.add((late, backwards))
        else:
            if not np.array_equal(sums, result):
                found.add((late, backwards))
    return found


def test_the_kernel_is_exact(tmp_path: Path) -> None:
    assert wrong(TEXT, tmp_path) == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(name: str, tmp_path: Path) -> None:
    old, new, conditions = MUTANTS[name]
    assert old in TEXT
    assert wrong(TEXT.replace(old, new, 1), tmp_path) == set(conditions)
