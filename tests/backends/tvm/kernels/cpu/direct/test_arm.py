"""Kernels of ARM on emulated processors equal the reference, in every configuration."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.qemu import missing
from gmpq.backends.tvm.kernels.cpu.depthwise.arm_neon import runs
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import NeonRuns, Steps, longest_run, runs_of
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import (
    check,
    network_of,
    random_convolution,
    random_linear,
    random_weight,
)

REASON = missing(find("arm64"))
pytestmark = pytest.mark.arm
emulated = pytest.mark.skipif(REASON is not None, reason=str(REASON))
BITS = ((8, 8), (8, 5), (7, 8), (6, 6), (5, 3), (4, 4), (3, 3), (3, 1), (2, 2), (1, 1))
PLANES = (*product((1, 2, 3), (1, 2, 3)), (6, 1), (5, 2), (6, 2), (2, 4), (1, 7))
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


@emulated
@pytest.mark.parametrize("target", ["arm64-dotprod", "rpi4"])
@pytest.mark.parametrize("bits", PLANES, ids=str)
def test_bitserial(bits: tuple[int, int], target: str, tmp_path: Path) -> None:
    seed = PLANES.index(bits)
    rng = np.random.default_rng(seed)
    inputs, outputs = (int(n) for n in rng.choice([1, 3, 17, 24, 33, 70, 96], 2))
    kernel = [(1, 1), (3, 3), (2, 3), (5, 1)][seed % 4]
    window = Window(
        kernel,
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        Padding(*(int(n) for n in rng.integers(0, 2, 4))),
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
    )
    weight = random_weight(rng, (outputs, inputs, *kernel), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, window)
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits[0])), bits[0])
    graph = network_of(node, q, (10, 11), batch=1 + seed % 2)
    assert check(graph, find(target), tmp_path, "bitserial", seed)


@emulated
@pytest.mark.parametrize("bits", [(2, 2), (1, 1), (6, 1)])
def test_bitserial_fully_connected(bits: tuple[int, int], tmp_path: Path) -> None:
    graph = random_linear(np.random.default_rng(sum(bits)), bits)
    assert check(graph, find("arm64"), tmp_path, "bitserial", sum(bits))


@emulated
@pytest.mark.parametrize(
    ("bits", "code_range", "channels"),
    [
        pytest.param(2, (-1, -1), 992, id="31-words-all-flipped"),
        pytest.param(2, (1, 1), 992, id="31-words-none-flipped"),
        pytest.param(3, (-3, 3), 480, id="15-words-of-two-pairs"),
        pytest.param(1, (-1, 1), 1100, id="padded-words-without-a-mask"),
        pytest.param(2, (-2, -2), 992, id="no-smallest-digit"),
    ],
)
def test_counts_that_fill_their_bytes(
    bits: int, code_range: tuple[int, int], channels: int, tmp_path: Path
) -> None:
    codes = np.random.default_rng(0).choice(code_range, (5, channels, 1, 1)).astype(np.int8)
    codes[0] = code_range[0]
    weight = random_weight(np.random.default_rng(1), codes.shape, 8)
    node = Conv2d("conv", ("x",), "y", replace(weight, codes=codes), Window((1, 1)))
    graph = network_of(node, QParams.full(1.0, 0, bits), (3, 3), 1)
    assert check(graph, find("arm64"), tmp_path, "bitserial", 0)


def test_taps_are_cut_where_lanes_are_full() -> None:
    taps = np.array([[3, 1], [3, -1], [-3, 1], [127, 0]], np.int8)
    assert runs(taps, (0, 20), range(4), np.int8) == ((0, 1, 2), (3,))  # 3 * 20 + 3 * 20 <= 127
    assert runs(taps, (-128, 127), range(4), np.int16) == ((0, 1, 2, 3),)
    three = np.repeat(taps[3:], 3, axis=0)
    assert runs(three, (-128, 127), range(3), np.int16) == ((0, 1), (2,))  # 2 * 127 * 128 fits


def test_a_run_ends_where_lanes_are_full() -> None:
    rows = np.full((1, 3, 1, 4, 1, 16), 7, np.int8)  # 12 steps of 2 * 7 * 15 per lane of int16
    assert longest_run(rows, (0, 15), np.int16) == Steps(3, 1, 4)
    assert longest_run(rows, (0, 15), np.int8) == Steps(1, 1, 1)  # 7 * 15 = 105
    assert longest_run(rows, (0, 19), np.int8) is None  # 7 * 19 = 133
    assert longest_run(rows + 5, (-128, 127), np.int16) == Steps(1, 1, 4)  # 8 * 12 * 128 fits


def test_a_run_holds_whole_runs_within() -> None:
    rows = np.full((1, 1, 1, 6, 1, 16), 1, np.int8)
    assert runs_of(rows, (0, 60), 64) == (NeonRuns(64, Steps(1, 1, 6), Steps(1, 1, 6), None),)
    assert runs_of(rows, (0, 21), 64)[1].int8_run == Steps(1, 1, 6)
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
