from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch
from torch.nn import functional

from gmpq.ir import Clamp, Function, HardSwish, LeakyRelu, PRelu, QParams, Sigmoid, Silu
from gmpq.passes.tables import apply, table

SLOPES = np.array([0.25, -0.5, 2.0], np.float32)
FUNCTIONS = [
    pytest.param(Clamp(0.0, inf), functional.relu, id="relu"),
    pytest.param(Clamp(-1.0, 1.0), functional.hardtanh, id="hardtanh"),
    pytest.param(LeakyRelu(0.1), lambda x: functional.leaky_relu(x, 0.1), id="leaky"),
    pytest.param(Silu(), functional.silu, id="silu"),
    pytest.param(HardSwish(), functional.hardswish, id="hardswish"),
    pytest.param(Sigmoid(), torch.sigmoid, id="sigmoid"),
]


@pytest.mark.parametrize(("function", "expected"), FUNCTIONS)
def test_functions_equal_torch(function: Function, expected: object) -> None:
    x = np.concatenate([np.linspace(-10, 10, 401), [-800.0, 800.0]])
    assert callable(expected)
    np.testing.assert_allclose(
        expected(torch.from_numpy(x)).numpy(), apply(function, x), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(("function", "_expected"), FUNCTIONS)
def test_entries_are_the_nearest_codes(function: Function, _expected: object) -> None:
    qx, qy = QParams.full(0.05, 120, 8), QParams(0.03125, 20, 6, 3, 60)
    entries = table(function, qx, qy)
    assert entries.dtype == np.uint8
    steps = apply(function, (np.arange(256) - 120) * float(np.float32(0.05))) / 0.03125 + 20
    assert (np.abs(entries - np.clip(steps, 3, 60)) <= 0.5 + 1e-4).all()


def test_prelu_has_a_table_per_channel() -> None:
    qx, qy = QParams.full(0.1, 100, 8), QParams.full(0.1, 128, 8)
    entries = table(PRelu(SLOPES), qx, qy)
    assert entries.shape == (3, 256)
    assert entries[:, 100].tolist() == [128] * 3
    assert entries[:, 110].tolist() == [138] * 3
    assert entries[:, 80].tolist() == [123, 138, 88]


def test_the_clip_is_the_producers() -> None:
    qx, qy = QParams.full(1.0, 128, 8), QParams.full(0.5, 0, 2)
    assert table(Clamp(-inf, inf), qx, qy)[[0, 128, 129, 255]].tolist() == [0, 0, 2, 3]
