"""Direct convolution with flipped codes: refusals and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.plan.plan import plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, QParams, Window
from tests.support.single_layers import (
    WITHOUT_VNNI,
    check,
    layer_of_many_bits,
    network_of,
    random_weight,
)

here = [pytest.param(t, id=t.name) for t in (find("x86-64-v3"), WITHOUT_VNNI) if t.runs_here()]


def test_minus_128_is_refused() -> None:
    weight = random_weight(np.random.default_rng(0), (16, 32, 3, 3), 8)
    weight.codes[3, 4, 1, 1] = -128
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3)))
    steps = plan(network_of(conv, QParams.full(1.0, 0, 8), (7, 9), 1), find("x86-64-v3")).steps
    assert steps[1].refusals["direct_flip"] == "a weight of -128 has no opposite"


def test_few_bits_are_refused() -> None:
    rng = np.random.default_rng(0)
    weight = random_weight(rng, (16, 32, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3)))
    steps = plan(network_of(conv, QParams.full(1.0, 0, 4), (7, 9), 1), find("x86-64-v3")).steps
    assert "direct16 adds more than pairs" in steps[1].refusals["direct_flip"]


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(16))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng, kind = np.random.default_rng(seed), seed % 4
    inputs, outputs = (int(n) for n in rng.choice([3, 8, 17, 40], 2))
    node, q = layer_of_many_bits(rng, kind, inputs, outputs, 36 if kind else 28)
    graph = network_of(node, q, (7, 9), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "direct_flip", seed)
