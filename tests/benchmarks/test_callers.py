from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from callers import row, sample
from gmpq import runtime
from tests.support.written_networks import layer, write


def test_wrong_results_are_counted(tmp_path: Path) -> None:
    write(layer(0), tmp_path)
    with runtime.load(tmp_path) as network:
        samples = [sample(network, seed) for seed in range(3)]
    damaged = [replace(samples[0], expected=b""), *samples[1:]]
    assert row(tmp_path, 2, 2, samples, 6)[:4] == ("2", "2", "18", "0")
    assert row(tmp_path, 2, 2, damaged, 6)[3] == "6"
