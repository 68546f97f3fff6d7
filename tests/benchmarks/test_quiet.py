from __future__ import annotations

import pytest

from gmpq.backends.tvm.target import find
from machine.quiet import LoadProbe, load_probe, undisturbed


@pytest.mark.parametrize(
    ("readings", "least", "counted"),
    [
        pytest.param([1.05, 1.6, 1.0], 1, [0, 2], id="near-the-best"),
        pytest.param([1.8, 1.6, 1.7], 2, [1, 2], id="none-is-near"),
        pytest.param([1.8], 2, [0], id="too-few"),
    ],
)
def test_what_counts(readings: list[float], least: int, counted: list[int]) -> None:
    assert undisturbed(readings, 1.0, least) == counted


@pytest.mark.parametrize("threads", [1, 2])
def test_a_probe_reads_milliseconds(threads: int) -> None:
    with load_probe(find("native"), threads) as reading:
        assert reading() > 0


def test_a_probe_remembers_its_best_reading() -> None:
    reading = LoadProbe(iter([3.0, 1.0, 2.0]).__next__)
    assert [reading() for _ in range(3)] == [3.0, 1.0, 2.0]
    assert reading.best == 1.0
