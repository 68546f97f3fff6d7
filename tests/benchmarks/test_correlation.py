from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.test_rows import row
from versus.correlation import cells, plot, spearman

ROWS = [
    replace(row(tool, ms), bits=f"draw-{bops}", bops=bops, exact=True if tool == "gmpq" else None)
    for tool, times in (("gmpq", (1.0, 2.0, 3.0)), ("ort-qdq", (5.0, 6.0, 4.0)))
    for bops, ms in zip((10, 20, 30), times, strict=True)
]


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        pytest.param([1, 2, 3, 4], 1.0, id="same-order"),
        pytest.param([1, 10, 100, 1000], 1.0, id="only-ranks-count"),
        pytest.param([4, 3, 2, 1], -1.0, id="reversed"),
        pytest.param([1, 3, 2, 4], 0.8, id="one-swap"),
        pytest.param([1, 2, 2, 3], 3 / math.sqrt(10), id="a-tie"),
    ],
)
def test_spearman(b: list[float], expected: float) -> None:
    assert spearman([10, 20, 30, 40], b) == pytest.approx(expected)


def test_spearman_of_equal_times_says_nothing() -> None:
    assert math.isnan(spearman([1, 2, 3], [5, 5, 5]))


def test_both_tools_are_correlated() -> None:
    _, lines = cells(ROWS)
    assert lines == [("resnet18", "1", "3", "1.000", "-0.500", "yes")]


def test_one_inexact_program_shows() -> None:
    _, ((*_, exact),) = cells([replace(ROWS[0], exact=False), *ROWS[1:]])
    assert exact == "NO"


@pytest.mark.parametrize("name", ["bops.svg", "bops.png"])
def test_equal_numbers_draw_an_equal_picture(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / folder / name for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        plot(ROWS, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
