"""Sums in int16: the length of runs, refusals, and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape
from gmpq.backends.tvm.kernels.cpu.direct.x86_int16 import Int16Run, longest_run
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Window
from tests.support.single_layers import WITHOUT_VNNI, check, random_convolution

here = [pytest.param(t, id=t.name) for t in (find("x86-64-v3"), WITHOUT_VNNI) if t.runs_here()]


def shape_of(channels: int) -> DirectShape:
    x, y = Layout(1, channels, 4, 4, channels), Layout(1, 8, 2, 2, 8)
    return DirectShape(Window((3, 3)), x, y, channels // 4, channels, 8, 8)


CASES = [
    pytest.param(1, 15, Int16Run(3, 3, 16), id="whole-kernel"),  # 9 * 16 * 2 * 15 = 4320 <= 32767
    pytest.param(21, 15, Int16Run(1, 3, 16), id="one-row"),  # 3 * 16 * 2 * 315 = 30240
    pytest.param(63, 15, Int16Run(1, 1, 16), id="one-tap"),  # 16 * 2 * 945 = 30240
    pytest.param(64, 127, Int16Run(1, 1, 2), id="two-steps"),  # 2 * 2 * 8128 = 32512
    pytest.param(64, 128, Int16Run(1, 1, 1), id="one-beyond"),  # 32768 = 2**15
    pytest.param(127, 255, None, id="a-pair-saturates"),
]


@pytest.mark.parametrize(("weight", "code", "expected"), CASES)
def test_a_run_is_as_long_as_its_sums_fit(
    weight: int, code: int, expected: Int16Run | None
) -> None:
    codes = np.full((8, 64, 3, 3), weight, np.int8)
    assert longest_run(codes, shape_of(64), code) == expected


def test_both_signs_are_bound_apart() -> None:
    codes = np.full((8, 64, 3, 3), 127, np.int8)
    codes[:, 1::2] = -127
    assert longest_run(codes, shape_of(64), 255) == Int16Run(1, 1, 1)  # 127 * 255 = 32385 both ways
    codes[:, 1::2] = 0
    assert longest_run(codes, shape_of(64), 15) == Int16Run(1, 1, 16)  # 16 * 127 * 15 = 30480


def test_the_lowest_sum_has_one_more_step() -> None:
    codes = np.full((8, 8, 3, 3), -64, np.int8)
    assert longest_run(codes, shape_of(8), 128) == Int16Run(1, 1, 2)  # -32768


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(24))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits = 1 + seed % 8, int(rng.integers(1, 9 if seed % 8 < 4 else 5))
    graph = random_convolution(rng, bits)
    if not check(graph, target, tmp_path, "direct16", seed):
        assert check(graph, target, tmp_path, "direct", seed)
