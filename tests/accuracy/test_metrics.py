from __future__ import annotations

import numpy as np
import pytest

from gmpq.accuracy.metrics import Energy, clipped_share, cosines, has_classes, largest, ranks
from gmpq.ir import QParams


@pytest.mark.parametrize(
    ("expected", "found", "decibels"),
    [
        pytest.param([10.0, 0.0], [9.0, 0.0], 20.0, id="a-tenth"),
        pytest.param([1.0, 1.0], [1.0, 1.0], 200.0, id="exact"),
        pytest.param([0.0, 0.0], [1.0, 0.0], -200.0, id="no-signal"),
        pytest.param([3.0, 4.0], [0.0, 0.0], 0.0, id="lost"),
        pytest.param([1e30, 0.0], [1e30, 1e-30], 200.0, id="beyond-the-scale"),
    ],
)
def test_sqnr(expected: list[float], found: list[float], decibels: float) -> None:
    energy = Energy.of(np.array(expected, np.float32), np.array(found, np.float32))
    assert energy.sqnr_db == pytest.approx(decibels, abs=1e-4)


def test_energies_add_up() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 5)).astype(np.float32)
    parts = Energy.of(a[:2], b[:2]) + Energy.of(a[2:], b[2:])
    assert parts.sqnr_db == pytest.approx(Energy.of(a, b).sqnr_db)


def test_cosines_are_per_image() -> None:
    a = np.array([[1, 0], [1, 0], [2, 2], [0, 0], [0, 0]], np.float32)
    b = np.array([[5, 0], [0, 1], [-1, -1], [0, 0], [1, 0]], np.float32)
    np.testing.assert_allclose(cosines(a, b), [1, 0, -1, 1, 0], atol=1e-12)


def test_equal_scores_are_ordered_by_class() -> None:
    scores = np.array([[1, 3, 3, 2], [0, 0, 0, 0]], np.float32)
    assert largest(scores).tolist() == [1, 0]
    by_class = [ranks(scores, np.full(2, label)).tolist() for label in range(4)]
    assert by_class == [[3, 0], [0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 2), True), ((1, 1), False), ((1, 9, 4, 4), False), ((4,), False)]
)
def test_classes_are_columns(shape: tuple[int, ...], classes: bool) -> None:
    assert has_classes(shape) == classes


def test_what_no_code_reaches_is_clipped() -> None:
    q = QParams.full(0.5, 2, 3)  # -1 to 2.5, half a step beyond by rounding
    x = np.array([-1.3, -1.2, 0.0, 2.7, 2.8], np.float32)
    assert clipped_share(x, q) == pytest.approx(2 / 5)
