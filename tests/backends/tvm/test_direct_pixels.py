"""Direct convolution with flipped codes: refusals and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.plan import plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.single_layers import WITHOUT_VNNI, check, network_of, random_weight

here = [pytest.param(t, id=t.name) for t in (find("x86-64-v3"), WITHOUT_VNNI) if t.runs_here()]


def test_minus_128_is_refused() -> None:
    weight = random_weight(np.random.default_rng(0), (16, 32, 3, 3), 8)
    weight.codes[3, 4, 1, 1] = -128
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3)))
    steps = plan(network_of(conv, QParams.full(1.0, 0, 8), (7, 9), 1), find("x86-64-v3")).steps
    assert steps[1].refusals["direct_pixels"] == "a weight of -128 has no opposite"


def test_few_bits_are_refused() -> None:
    rng = np.random.default_rng(0)
    weight = random_weight(rng, (16, 32, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3)))
    steps = plan(network_of(conv, QParams.full(1.0, 0, 4), (7, 9), 1), find("x86-64-v3")).steps
    assert "direct16 adds more than pairs" in steps[1].refusals["direct_pixels"]


def layer(rng: np.random.Generator, kind: int) -> tuple[Conv2d, QParams]:
    inputs = int(rng.choice([13, 16, 31, 48]))  # stored in whole vectors
    outputs = int(rng.choice([3, 8, 17, 40]))
    size, bits = int(rng.choice([1, 3])), int(rng.choice([7, 8]))
    weight = random_weight(rng, (outputs, inputs, size, size), bits)
    if bits == 8:
        bell = rng.normal(0, 36 if kind else 28, weight.codes.shape).round()
        weight.codes[:] = np.clip(bell, -127, 127)
    window = Window((size, size), (1 + kind % 2,) * 2, Padding(1, 0, 1, 1), (1, 1 + kind // 2))
    return Conv2d("conv", ("x",), "y", weight, window), QParams.full(1.0, kind, 8)


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(16))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    node, q = layer(rng, seed % 4)
    graph = network_of(node, q, (7, 9), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "direct_pixels", seed)
