"""Emulated instructions equal their definitions in the PTX ISA, element by element."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.cuda import library
from tests.support.gpu.cuda_kernels import Array, Driver, load_text, run_kernel

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

ONE, WARP = (1, 1, 1), (32, 1, 1)
MMA = """
extern "C" __global__ void NAME(const unsigned *a, const unsigned *b, const int *c, int *d) {
  int l = threadIdx.x, sums[4];
  for (int i = 0; i < 4; i++) sums[i] = c[4 * l + i];
  CALL(sums[0], sums[1], sums[2], sums[3], a[4 * l], a[4 * l + 1], a[4 * l + 2],
       a[4 * l + 3], b[2 * l], b[2 * l + 1]);
  for (int i = 0; i < 4; i++) d[4 * l + i] = sums[i];
}
"""
TEXT = "".join(
    MMA.replace("NAME", f"run_{kind}").replace("CALL", f"emulated_{kind}")
    for kind in ("mma_u8s8", "mma_u4s4")
)
TEXT += """
extern "C" __global__ void ldmatrix(const uint4 *rows, unsigned *to) {
  __shared__ alignas(16) uint4 held[32];
  int l = threadIdx.x;
  held[(l + 7) % 32] = rows[l];
  __syncthreads();
  emulated_ldmatrix_x4(to[4 * l], to[4 * l + 1], to[4 * l + 2], to[4 * l + 3], &held[(l + 7) % 32]);
}
extern "C" __global__ void copies(const char *from, int *to) {  // two groups of each size
  __shared__ alignas(16) int held[3][3][32][4];
  int l = threadIdx.x;
  for (int group = 0; group < 2; group++) {
    emulated_copy16(held[0][group][l], from + 16 * (2 * l + group));
    emulated_copy8x2(held[1][group][l], from + 16 * (2 * l + group) + 8);
    emulated_copy4(held[2][group][l], from + 16 * (2 * l + group) + 4);
    emulated_commit();
  }
  for (int left = 2; left >= 0; left--) {
    emulated_wait(left);
    for (int i = 0; i < 3 * 2 * 4; i++)
      to[((2 - left) * 32 + l) * 24 + i] = held[i / 8][i / 4 % 2][l][i % 4];
  }
}
extern "C" __global__ void shuffles(const int *words, const float *reals, int *to, float *sums) {
  int l = threadIdx.x;
  float sum = reals[l];
  for (int lanes = 16; lanes; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  sums[l] = sum;
  to[4 * l] = __shfl_xor_sync(0xffffffffu, words[l], 5);
  to[4 * l + 1] = __shfl_down_sync(0xffffffffu, words[l], 3, 8);
  to[4 * l + 2] = __shfl_sync(0xffffffffu, words[l], l / 8, 16);
  to[4 * l + 3] = __shfl_xor_sync(0xffffffffu, words[l], 8, 8);
}
extern "C" __global__ void reversed(const int *from, int *to) {  // by warps that wait for others
  __shared__ int held[256];
  int t = threadIdx.x + blockDim.x * threadIdx.y, n = blockDim.x * blockDim.y;
  int first = (blockIdx.x + gridDim.x * blockIdx.y) * n;
  held[t] = from[first + t];
  __syncthreads();
  to[first + t] = held[n - 1 - t];
}
extern "C" __global__ void unwritten(unsigned *to) {
  __shared__ unsigned held[2];
  to[2 * blockIdx.x] = held[0];
  to[2 * blockIdx.x + 1] = held[1];
  held[threadIdx.x] = 1;
}
extern "C" __global__ void counted(int *total, int *before) {
  before[threadIdx.x] = atomicAdd(total, 3);
}
extern "C" __global__ void rounded(
    const float *reals, const float *divisors, int *whole, float *to) {
  int i = threadIdx.x;
  whole[i] = __float2int_rn(reals[i]);
  to[2 * i] = __fadd_rn(__fmul_rn(reals[i], divisors[i]), 1.0f);
  to[2 * i + 1] = __fdiv_rn(reals[i], divisors[i]);
}
extern "C" __global__ void products(const unsigned *a, const unsigned *b, int *to) {
  int i = threadIdx.x;
  to[3 * i] = emulated_dp4a_u8s8(a[i], b[i], i);
  to[3 * i + 1] = __dp4a((int)a[i], (int)b[i], i);
  to[3 * i + 2] = (int)__dp4a(a[i], b[i], (unsigned)i);
}
"""
KERNELS = {
    "run_mma_u8s8": 4,
    "run_mma_u4s4": 4,
    "ldmatrix": 2,
    "copies": 2,
    "shuffles": 4,
    "reversed": 2,
    "unwritten": 1,
    "counted": 2,
    "rounded": 4,
    "products": 3,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    folder: Path = tmp_path_factory.mktemp("instructions")
    return load_text(TEXT, KERNELS, folder)


@pytest.fixture
def driver(compiled: Driver) -> Iterator[Driver]:
    yield compiled
    compiled.set(late_copies=0, backwards=0)


def packed(codes: Array, bits: int) -> Array:
    """Return words of the codes along the last axis, the first in the lowest bits."""
    per = 32 // bits
    fields = codes.astype(np.int64).reshape(*codes.shape[:-1], -1, per) & ((1 << bits) - 1)
    return np.asarray((fields << (np.arange(per) * bits)).sum(-1), np.uint32)


@pytest.mark.parametrize(("kind", "bits"), [("mma_u8s8", 8), ("mma_u4s4", 4)])
def test_products_of_fragments_are_products_of_matrices(
    driver: Driver, kind: str, bits: int
) -> None:
    rng, k, word = np.random.default_rng(bits), 8 * 32 // bits, 32 // bits
    a = rng.integers(0, 1 << bits, (16, k))
    b = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (k, 8))
    c = rng.integers(-(1 << 31), 1 << 31, (16, 8))
    lane = np.arange(32)[:, None]
    group, within = lane // 4, lane % 4
    i = np.arange(4 * word)  # PTX ISA, "Matrix fragments for mma.m16n8k32" and "m16n8k64"
    a_row = np.where(i // word % 2 == 0, group, group + 8)
    a_column = within * word + i % word + np.where(i < 2 * word, 0, k // 2)
    j = np.arange(2 * word)
    b_row = within * word + j % word + np.where(j < word, 0, k // 2)
    e = np.arange(4)
    c_row, c_column = np.where(e < 2, group, group + 8), within * 2 + e % 2
    fragments = packed(a[a_row, a_column], bits), packed(b[b_row, group], bits)
    sums = c[c_row, c_column].astype(np.int32)
    result = run_kernel(
        driver, f"run_{kind}", ONE, WARP, [*fragments, sums, np.zeros((32, 4), np.int32)]
    )[3]
    wanted = (c + a @ b).astype(np.uint64).astype(np.uint32).view(np.int32)  # it wraps around
    np.testing.assert_array_equal(wanted[c_row, c_column], result)


def test_ldmatrix_gives_lane_l_word_l_mod_4_of_row_l_div_4(driver: Driver) -> None:
    rows = np.random.default_rng(1).integers(0, 1 << 32, (32, 4), dtype=np.uint32)
    result = run_kernel(driver, "ldmatrix", ONE, WARP, [rows, np.zeros((32, 4), np.uint32)])[1]
    lane = np.arange(32)
    wanted = [rows[8 * matrix + lane // 4, lane % 4] for matrix in range(4)]
    np.testing.assert_array_equal(np.stack(wanted, 1), result)


@pytest.mark.parametrize("late", [0, 1])
def test_copies_come_at_once_or_with_the_wait_for_their_group(driver: Driver, late: int) -> None:
    driver.set(late_copies=late)
    words = np.random.default_rng(2).integers(0, 1 << 30, 32 * 8 + 4, dtype=np.int32)
    zeros = np.zeros((3, 32, 3, 2, 4), np.int32)
    result = run_kernel(driver, "copies", ONE, WARP, [words, zeros])[1]
    unwritten = np.int32(np.uint32(0xA5A5A5A5).astype(np.int32))
    for left in (2, 1, 0):
        for group in (0, 1):
            come = not late or group < 2 - left
            for size, (first, count) in enumerate([(0, 4), (2, 4), (1, 1)]):
                at = np.arange(32)[:, None] * 8 + group * 4 + first + np.arange(4)
                wanted = np.where(come & (np.arange(4) < count), words[at], unwritten)
                np.testing.assert_array_equal(wanted, result[2 - left, :, size, group])


def test_shuffles(driver: Driver) -> None:
    rng, lane = np.random.default_rng(3), np.arange(32)
    words = rng.integers(-100, 100, 32).astype(np.int32)
    reals = rng.integers(-100, 100, 32).astype(np.float32)
    arrays = [words, reals, np.zeros((32, 4), np.int32), np.zeros(32, np.float32)]
    *_, moved, sums = run_kernel(driver, "shuffles", ONE, WARP, arrays)
    np.testing.assert_array_equal(np.full(32, reals.sum()), sums)
    down = np.where(lane % 8 < 5, lane + 3, lane)
    own = lane // 16 * 16 + lane // 8
    wanted = [
        words[lane ^ 5],
        words[down],
        words[own],
        words[np.where(lane % 16 < 8, lane, lane - 8)],
    ]
    np.testing.assert_array_equal(np.stack(wanted, 1), moved)


@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("block", [(256, 1, 1), (40, 1, 1), (8, 4, 1), (1, 1, 1)])
def test_a_barrier_orders_threads_of_all_warps(
    driver: Driver, block: tuple[int, int, int], backwards: int
) -> None:
    driver.set(backwards=backwards)
    values = np.arange(6 * block[0] * block[1], dtype=np.int32)
    result = run_kernel(driver, "reversed", (2, 3, 1), block, [values, np.zeros_like(values)])[1]
    np.testing.assert_array_equal(values.reshape(6, -1)[:, ::-1], result.reshape(6, -1))


def test_each_block_finds_the_pattern_in_its_shared_memory(driver: Driver) -> None:
    (result,) = run_kernel(driver, "unwritten", (3, 1, 1), ONE, [np.zeros((3, 2), np.uint32)])
    np.testing.assert_array_equal(np.full((3, 2), 0xA5A5A5A5), result)


def test_atomic_sums(driver: Driver) -> None:
    arrays = [np.array([7], np.int32), np.zeros(64, np.int32)]
    total, before = run_kernel(driver, "counted", ONE, (64, 1, 1), arrays)
    np.testing.assert_array_equal([7 + 64 * 3], total)
    np.testing.assert_array_equal(7 + 3 * np.arange(64), np.sort(before))


def test_floats_round_once_and_integers_saturate(driver: Driver) -> None:
    odd = [0.5, 1.5, 2.5, -0.5, -2.5, 3e9, -3e9, np.nan, np.inf, -np.inf, 8388609.0, 2147483520.0]
    many = np.random.default_rng(5).normal(0, 1e4, 244).astype(np.float32)
    reals = np.concatenate([np.array(odd, np.float32), many])
    divisors = np.random.default_rng(6).uniform(0.1, 3, 256).astype(np.float32)
    arrays = [reals, divisors, np.zeros(256, np.int32), np.zeros((256, 2), np.float32)]
    *_, whole, result = run_kernel(driver, "rounded", ONE, (256, 1, 1), arrays)
    limits = np.iinfo(np.int32)
    steps = np.clip(np.nan_to_num(np.rint(reals.astype(np.float64))), limits.min, limits.max)
    np.testing.assert_array_equal(steps.astype(np.int32), whole)
    wanted = np.stack([reals * divisors + np.float32(1), reals / divisors], 1)
    np.testing.assert_array_equal(wanted, result)


def test_products_of_four_bytes(driver: Driver) -> None:
    a, b = np.random.default_rng(7).integers(0, 1 << 32, (2, 64), dtype=np.uint32)
    to = np.zeros((64, 3), np.int32)
    result = run_kernel(driver, "products", ONE, (64, 1, 1), [a, b, to])[2]
    kinds = [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8)]
    for column, (first, second) in enumerate(kinds):
        pairs = a.view(first).astype(np.int32) * b.view(second)
        np.testing.assert_array_equal(
            pairs.reshape(64, 4).sum(1) + np.arange(64), result[:, column]
        )
