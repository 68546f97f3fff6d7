"""Kernels of ARM on emulated processors equal the reference, in every configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulator import missing
from gmpq.backends.tvm.kernels.depthwise_neon import runs
from gmpq.backends.tvm.kernels.neon_runs import Runs, Steps, longest_run, runs_of
from gmpq.backends.tvm.neon import Unit
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.single_layers import check, network_of, random_convolution, random_linear, random_weight

REASON = missing(find("arm64"))
pytestmark = pytest.mark.arm
emulated = pytest.mark.skipif(REASON is not None, reason=str(REASON))
BITS = ((8, 8), (8, 5), (7, 8), (6, 6), (5, 3), (4, 4), (3, 3), (3, 1), (2, 2), (1, 1))
KERNELS = (
    ("arm64", "direct_neon"),
    ("arm64", "direct"),
    ("arm64-dotprod", "direct"),
    ("arm64-i8mm", "direct_mmla"),
)


@emulated
@pytest.mark.parametrize(("target", "family"), KERNELS)
@pytest.mark.parametrize("seed", range(20))
def test_direct_kernels(seed: int, target: str, family: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    layer = random_linear if seed % 5 == 4 else random_convolution
    graph = layer(rng, BITS[seed % len(BITS)])
    check(graph, find(target), tmp_path, family, seed)


@emulated
@pytest.mark.parametrize("form", ["in int8", ""])
@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (3, 3), (3, 2)])
def test_sums_in_int8(bits: tuple[int, int], form: str, tmp_path: Path) -> None:
    seed = sum(bits)
    rng = np.random.default_rng(seed)
    weight = random_weight(rng, (24, 80, 3, 3), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1)))
    graph = network_of(node, QParams.full(1.0, 1, bits[0]), (5, 7), 1)
    assert check(graph, find("arm64"), tmp_path, "direct_neon", seed, form)


@emulated
@pytest.mark.parametrize("seed", range(20))
def test_depthwise(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits, weight_bits = BITS[seed % len(BITS)]
    channels = int(rng.choice([3, 16, 24, 40]))
    kernel = [(3, 3), (5, 5), (1, 3), (2, 4)][seed % 4]
    window = Window(
        kernel,
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        Padding(*(int(n) for n in rng.integers(0, 3, 4))),
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
    )
    weight = random_weight(rng, (channels, 1, *kernel), weight_bits)
    node = Conv2d("conv", ("x",), "y", weight, window, channels)
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    graph = network_of(node, q, (10, 11), batch=1 + seed % 2)
    assert check(graph, find("arm64"), tmp_path, "depthwise_neon", seed)


def test_taps_are_cut_where_lanes_are_full() -> None:
    taps = np.array([[3, 1], [3, -1], [-3, 1], [127, 0]], np.int8)
    assert runs(taps, (0, 20), range(4), np.int8) == ((0, 1, 2), (3,))  # 3 * 20 + 3 * 20 <= 127
    assert runs(taps, (-128, 127), range(4), np.int16) == ((0, 1, 2, 3),)
    three = np.repeat(taps[3:], 3, axis=0)
    assert runs(three, (-128, 127), range(3), np.int16) == ((0, 1), (2,))  # 2 * 127 * 128 fits


@emulated
@pytest.mark.parametrize("target", ["arm64", "arm64-dotprod", "arm64-i8mm"])
@pytest.mark.parametrize("seed", range(12))
def test_winograd(seed: int, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits, weight_bits = (int(n) for n in rng.integers(1, 6, 2))
    inputs, outputs = (int(n) for n in rng.choice([3, 17, 24, 64, 80], 2))
    stride, size = 1 + seed % 2, 2 + seed % 5
    window = Window((3, 3), (stride, stride), Padding(*(int(n) for n in rng.integers(0, 2, 4))))
    node = Conv2d(
        "conv", ("x",), "y", random_weight(rng, (outputs, inputs, 3, 3), weight_bits), window
    )
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    graph = network_of(node, q, (3 * size, 4 * size), batch=1 + seed % 2)
    check(graph, find(target), tmp_path, "winograd", seed)


def test_a_run_ends_where_lanes_are_full() -> None:
    rows = np.full((1, 3, 1, 4, 1, 16), 7, np.int8)  # 12 steps of 2 * 7 * 15 per lane of int16
    assert longest_run(rows, (0, 15), np.int16) == Steps(3, 1, 4)
    assert longest_run(rows, (0, 15), np.int8) == Steps(1, 1, 1)  # 7 * 15 = 105
    assert longest_run(rows, (0, 19), np.int8) is None  # 7 * 19 = 133
    assert longest_run(rows + 5, (-128, 127), np.int16) == Steps(1, 1, 4)  # 8 * 12 * 128 fits


def test_a_run_holds_whole_runs_within() -> None:
    rows = np.full((1, 1, 1, 6, 1, 16), 1, np.int8)
    assert runs_of(rows, (0, 60), Unit(64)) == (
        Runs(Unit(64), Steps(1, 1, 6), Steps(1, 1, 6), None),
    )
    assert runs_of(rows, (0, 21), Unit(64))[1].bytes == Steps(1, 1, 6)
    within = longest_run(rows, (0, 31), np.int8)
    assert within == Steps(1, 1, 3)
    assert longest_run(rows, (0, 31), np.int16, within) == Steps(1, 1, 6)


def test_the_most_negative_products_need_a_run_of_their_own() -> None:
    rows = np.full((1, 1, 1, 1, 1, 16), -128, np.int8)
    assert longest_run(rows, (-128, 127), np.int16) is None  # 2 * 128 * 128 = 32768
    rows[..., 0] = -127
    rows[..., 8:] = -127
    rows[..., 1:8] = -127
    assert longest_run(rows, (-128, 127), np.int16) == Steps(1, 1, 1)
