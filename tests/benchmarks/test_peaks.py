"""Peaks: loops compile and run, and their rates become times."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.kernels.base import Work
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Graph
from machine.peak_loops import DotLoop, TileLoop, loops
from machine.peaks import Peaks, measure, planned
from peaks import main, rows

V3, VNNI = find("x86-64-v3"), find("x86-64-v4-vnni")
WIDEST = replace(
    VNNI,
    name="all",
    cpu="sapphirerapids",
    features=VNNI.features | {"amx-tile", "amx-int8", "avx512vpopcntdq"},
)
PEAKS = Peaks({"fast": 2e9, "slow": 5e8}, {"fast": "4 x 3", "slow": "6 x 2"}, 1e9)


def names(target: Target) -> set[str]:
    return {loop.instruction for loop in loops(target)}


def test_a_target_has_the_loops_of_its_instructions() -> None:
    bytes_and_words = {"vpmaddubsw+vpaddw", "vpmaddubsw+vpmaddwd+vpaddd", "vpmaddwd+vpaddd"}
    assert names(V3) == bytes_and_words
    assert names(VNNI) == bytes_and_words | {"vpdpbusd", "vpdpwssd"}
    assert names(WIDEST) == names(VNNI) | {"tdpbusd", "vpandd+vpopcntd+vpaddd"}
    assert names(find("arm64")) == set()


def test_loops_count_their_macs() -> None:
    for loop in loops(WIDEST):
        if isinstance(loop, TileLoop):
            assert loop.macs == loop.repeats * 4 * 4 * 16 * 16 * 64
        else:
            per_step = loop.macs / (loop.repeats * 64 * loop.rows * loop.vectors)
            assert per_step in (32, 64, 512)


def test_register_tiles_fit_the_registers() -> None:
    for target in (V3, VNNI):
        for loop in loops(target):
            assert isinstance(loop, DotLoop)
            assert loop.rows * loop.vectors + 1 < target.vector_registers


@pytest.mark.parametrize("target", [V3, VNNI, WIDEST], ids=lambda target: target.name)
def test_every_loop_compiles(target: Target, tmp_path: Path) -> None:
    calls = [loop.call() for loop in loops(target)]
    assemble(Graph("peaks", (), (), {}, ()), planned(calls, target), target, tmp_path)
    assert (tmp_path / "model.so").exists()


@pytest.mark.skipif(not V3.runs_here(), reason="needs AVX2")
def test_peaks_are_measured() -> None:
    found = measure(V3, rounds=1)
    assert set(found.rates) == set(found.tiles) == names(V3)
    assert np.isfinite([*found.rates.values(), found.clock_hz]).all()
    assert min(*found.rates.values(), found.clock_hz) > 0


@pytest.mark.skipif(not V3.runs_here(), reason="needs AVX2")
def test_cores_at_once_are_compared_with_one() -> None:
    result = CliRunner().invoke(main, ["--rounds", "2", "--threads", "2", "--target", "x86-64-v3"])
    assert result.exit_code == 0
    expected = r"2 cores .* [\d.]+ times as much as one by the best readings, [\d.]+ by the medians"
    assert re.fullmatch(expected, result.output.splitlines()[-1])


def test_threads_share_the_work() -> None:
    assert PEAKS.seconds(Work(4_000_000_000, "fast"), 1) == 2.0
    assert PEAKS.seconds(Work(4_000_000_000, "fast"), 2) == 1.0
    assert PEAKS.predicted_ms(6e6, 2) == 3.0


def test_an_instruction_without_a_peak_takes_no_time() -> None:
    assert PEAKS.seconds(Work(1, ""), 1) == 0.0


def test_peaks_are_a_table() -> None:
    _, _, first, second = rows(PEAKS).splitlines()
    assert first.split() == ["fast", "4", "x", "3", "2.0", "2.0"]
    assert second.split() == ["slow", "6", "x", "2", "0.5", "0.5"]
    assert str(PEAKS) == "GMAC/s on one thread: fast 2, slow 0; clock 1.00 GHz"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param("arm64", "does not run on this machine", id="elsewhere"),
        pytest.param("x86-64-v5", "is unknown", id="unknown"),
    ],
)
def test_a_target_that_cannot_be_measured_is_refused(target: str, message: str) -> None:
    result = CliRunner().invoke(main, ["--target", target])
    assert result.exit_code == 2
    assert message in result.output
