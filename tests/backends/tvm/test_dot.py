from __future__ import annotations

import numpy as np
import pytest

from gmpq.backends.tvm.dot import Narrow, Portable, Vnni, Wide, best_dot
from gmpq.backends.tvm.target import find

CASES = [
    pytest.param(255, 127, Wide, id="w8a8-would-saturate"),
    pytest.param(255, -128, Wide, id="lowest-weight"),
    pytest.param(255, 64, Narrow, id="largest-exact-pair"),
    pytest.param(255, 65, Wide, id="one-beyond"),
    pytest.param(127, 127, Narrow, id="w8a7"),
    pytest.param(15, 7, Narrow, id="w4a4"),
]


@pytest.mark.parametrize(("code", "weight", "expected"), CASES)
def test_avx2_narrows_only_where_no_pair_saturates(code: int, weight: int, expected: type) -> None:
    weights = np.array([[weight]], np.int8)
    assert isinstance(best_dot(find("x86-64-v3"), code, weights), expected)


def test_targets_choose_their_instruction() -> None:
    weights = np.ones((1, 1), np.int8)
    assert isinstance(best_dot(find("x86-64-v4-vnni"), 255, weights), Vnni)
    assert isinstance(best_dot(find("arm64"), 255, weights), Portable)
