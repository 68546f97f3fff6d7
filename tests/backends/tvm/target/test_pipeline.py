"""What predictions know of processors, and what the planner makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import NeonRuns, Steps
from gmpq.backends.tvm.plan.plan import plan
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.target.cpu import ROWS
from gmpq.backends.tvm.target.pipeline import (
    CORTEX_A72_CLASS,
    IN_ORDER,
    OUT_OF_ORDER,
    PipelineModel,
    pipeline_of,
)
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import network_of, random_weight

MODELS = {
    "x86-64-v3": OUT_OF_ORDER,
    "x86-64-v4-vnni": OUT_OF_ORDER,
    "arm64": IN_ORDER,
    "arm64-dotprod": IN_ORDER,
    "arm64-i8mm": OUT_OF_ORDER,
    "armv7": IN_ORDER,
    "rpi3": IN_ORDER,
    "rpi4": CORTEX_A72_CLASS,
    "rpi5": OUT_OF_ORDER,
    "jetson-orin-cpu": OUT_OF_ORDER,
}


def test_the_model_of_every_target_is_stated() -> None:
    assert set(MODELS) == {row.name for row in ROWS}


@pytest.mark.parametrize(
    ("target", "expected"), [*MODELS.items(), ("aarch64-linux-gnu,cortex-a57", CORTEX_A72_CLASS)]
)
def test_every_target_has_its_processors_model(target: str, expected: PipelineModel) -> None:
    assert pipeline_of(find(target)) == expected


def test_loads_come_beside_instructions_unless_these_run_in_order() -> None:
    assert IN_ORDER.step(computing=16, loads=8) == 24
    assert OUT_OF_ORDER.step(computing=16, loads=8) == 16.5
    assert OUT_OF_ORDER.step(computing=1, loads=8) == 4.5


def test_products_of_two_bits_are_cheaper_only_where_bytes_multiply_fast() -> None:
    words = NeonRuns(64, Steps(1, 1, 64), Steps(1, 1, 64), None)
    narrow = NeonRuns(64, Steps(1, 1, 64), Steps(1, 1, 64), Steps(1, 1, 32))
    tile = (4, 8)
    assert narrow.step_cycles(IN_ORDER, *tile) < 0.7 * words.step_cycles(IN_ORDER, *tile)
    assert narrow.step_cycles(CORTEX_A72_CLASS, *tile) == words.step_cycles(CORTEX_A72_CLASS, *tile)


@pytest.mark.parametrize(
    ("target", "bits", "kernel", "stride", "expected"),
    [
        pytest.param("rpi4", 2, 3, 1, "bitserial", id="a72-w2"),
        pytest.param("rpi4", 2, 1, 1, "bitserial", id="a72-w2-1x1"),
        pytest.param("rpi4", 3, 3, 1, "winograd", id="a72-w3"),
        pytest.param("rpi4", 3, 1, 1, "bitserial", id="a72-w3-1x1"),
        pytest.param("rpi4", 4, 1, 1, "direct_neon", id="a72-w4-1x1"),
        pytest.param("arm64", 1, 3, 1, "bitserial", id="a53-w1"),
        pytest.param("arm64", 2, 3, 1, "winograd", id="a53-w2"),
        pytest.param("arm64", 2, 3, 2, "bitserial", id="a53-w2-stride-2"),
        pytest.param("arm64", 3, 1, 1, "direct_neon", id="a53-w3-1x1"),
        pytest.param("arm64-dotprod", 2, 1, 1, "direct", id="a55-w2-1x1"),
        pytest.param("arm64-dotprod", 2, 3, 1, "winograd", id="a55-w2"),
        pytest.param("arm64-dotprod", 1, 1, 1, "bitserial", id="a55-w1-1x1"),
        pytest.param("rpi5", 2, 1, 1, "direct", id="a76-w2-1x1"),
        pytest.param("rpi5", 1, 1, 1, "bitserial", id="a76-w1-1x1"),
        pytest.param("rpi5", 1, 3, 1, "winograd", id="a76-w1"),
    ],
)
def test_planes_of_bits_are_counted_where_that_is_fastest(
    target: str, bits: int, kernel: int, stride: int, expected: str
) -> None:
    weight = random_weight(np.random.default_rng(0), (128, 128, kernel, kernel), bits)
    padding = Padding(*[kernel // 2] * 4)
    window = Window((kernel, kernel), (stride, stride), padding)
    node = Conv2d("conv", ("x",), "y", weight, window)
    graph = network_of(node, QParams.full(1.0, 0, bits), (28, 28), 1)
    assert plan(graph, find(target)).steps[1].kernel == expected
