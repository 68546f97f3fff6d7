"""Shares of the peak: of steps together, of whole programs, and as tables."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from click.testing import CliRunner

from gmpq.backends.tvm.kernels.base import Work
from gmpq.backends.tvm.plan.plan import Step
from gmpq.policy import LayerBits
from layers import main
from machine.peaks import Peaks
from machine.quiet import LoadProbe, always_quiet
from tests.benchmarks.test_gmpq_tool import subject
from tests.benchmarks.test_rows import row
from versus.baselines.gmpq_tool import compile_gmpq
from versus.bench import Bench
from versus.entry import Compiled
from versus.measure import Cell, measure
from versus.rows import to_json
from versus.shares import (
    STRETCH_MS,
    StepTime,
    medians_ms,
    of_peak,
    share,
    squares,
    step_times,
    table,
)
from versus.steps import HEADER, cells, summary
from versus.timing import Plan

NAMES = ("", "vpdpbusd", "vpdpwssd", "vpmaddubsw+vpaddw", "vpmaddwd+vpaddd")
PEAKS = Peaks(dict.fromkeys((*NAMES, "vpmaddubsw+vpmaddwd+vpaddd", "tdpbusd"), 1e15), {}, 1e9)


@pytest.fixture
def compiled(tmp_path: Path) -> Compiled:
    found = subject()
    bits = dict.fromkeys(("first", "second"), LayerBits(8, 8))
    return compile_gmpq(Bench(found, tmp_path, tmp_path), found.quantized(bits), 1)


def test_steps_together_have_the_share_of_their_sums() -> None:
    steps = [StepTime("a", 1.0, 0.5, True, 0.5), StepTime("b", 3.0, 1.5, True, 0.5)]
    assert of_peak(steps) == 0.25
    assert of_peak(steps, again=True) == 0.5
    assert [step.share for step in steps] == [0.5, 0.5 / 3]
    assert of_peak([]) is None


def test_time_without_a_known_peak_counts_against_the_share() -> None:
    steps = [StepTime("a", 1.0, 1.0, True, 1.0), StepTime("b", 1.0, 1.0, True, 0.0)]
    assert of_peak(steps) == 0.5
    assert steps[1].share is None


def test_every_step_runs_alone_and_in_order() -> None:
    ran: list[tuple[int, int]] = []
    found = medians_ms(lambda first, last: ran.append((first, last)), 2, 5, LoadProbe(always_quiet))
    again = [(0, 1), (0, 1), (1, 2), (1, 2)]
    assert ran == [(0, 1), (1, 2), (2, 2), *again] * 8  # three rounds warm up; (2, 2) runs no step
    assert all(ms > 0 for times in found for ms in times)


@pytest.mark.parametrize(
    ("readings", "turns"),
    [
        pytest.param([1.0] * 99, 4, id="quiet"),
        pytest.param([1.0] * 6 + [2.0] * 8 + [1.0] * 99, 8, id="quiet-at-last"),
        pytest.param([2.0] * 99, 12, id="never"),
    ],
)
def test_steps_run_again_while_the_machine_is_disturbed(readings: list[float], turns: int) -> None:
    """A turn, of two readings here, is disturbed if one of them is; three turns warm up."""
    ran: list[int] = []
    probe = LoadProbe(iter([1.0, *readings]).__next__)
    probe()
    medians_ms(lambda first, _last: ran.append(first), 1, 4, probe)
    assert ran.count(1) == 3 + turns  # step 1 does not exist


def test_runs_of_a_step_count_if_the_readings_around_them_are_near_the_best() -> None:
    readings = cycle([1.0, 1.0, 2.0, 1.0, 1.0, 1.0])  # around a step and it again, in two turns
    naps = cycle([STRETCH_MS, 0.0, 0.0, STRETCH_MS, 0.0, 2 * STRETCH_MS])  # it is fast if disturbed

    def step(first: int, _last: int) -> None:
        time.sleep(next(naps) / 1e3 if first == 0 else 0.0)

    ((_, again_ms),) = medians_ms(step, 1, 4, LoadProbe(lambda: next(readings)))
    assert again_ms > 1.5 * STRETCH_MS  # the median of all runs is below


def test_shares_of_a_program_lie_between_nothing_and_all(compiled: Compiled) -> None:
    found = share(compiled, subject().image, PEAKS, 1, LoadProbe(always_quiet))
    assert squares(compiled.graph) == {"first", "second"}
    assert found.share_3x3 is not None
    assert 0 < found.share_3x3 < 1
    assert found.share_all == pytest.approx(found.share_3x3)  # it has no other layers
    assert 0 < found.share_time < 1
    assert 0 < found.live_bytes <= found.workspace_bytes
    assert found.moved_bytes > 0


def test_peers_have_no_shares_and_programs_of_gmpq_do(tmp_path: Path) -> None:
    bench = Bench(subject(), tmp_path, tmp_path, peaks=PEAKS)
    plan = Plan(seconds=0.0, least=1, most=1, runs=1)
    (found,) = measure(bench, Cell(("w8a8",), ("gmpq",), 1, 0, plan)).rows
    assert found.share_all is not None
    (without,) = measure(replace(bench, peaks=None), Cell(("w8a8",), ("gmpq",), 1, 0, plan)).rows
    assert without.share_all is None
    assert to_json([without])[0]["workspace_bytes"] is None


def test_the_table_has_a_line_per_program_of_gmpq() -> None:
    known = replace(
        row("gmpq", 2.0),
        share_3x3=None,
        share_all=0.625,
        share_time=0.5,
        steps_ms=2.125,
        workspace_bytes=3_000_000,
        live_bytes=2_000_000,
        stack_bytes=500_000,
        moved_bytes=30_000_000,
    )
    header, lines = table([known, row("ort-int8", 8.0)])
    sizes = ("3.00 MB", "2.00 MB", "1.50", "0.50 MB", "30.00 MB")
    assert lines == [("resnet18", "1", "w4a4", "-", "62%", "50%", "2.125", *sizes)]
    assert len(header) == len(lines[0])


def test_a_step_is_a_line_with_its_prediction() -> None:
    work = Work(3_000_000_000, "fast")
    multiplying = Step("conv", "y", "direct", "1x2", (), {}, {}, 4e6, work)
    lines = cells(
        [multiplying, Step("add", "z", "add", "", (), {}, {})],
        [StepTime("conv", 2.0, 1.75, True, 1.5), StepTime("add", 0.5, 0.25, False, 0.0)],
        {"conv": 3_000_000_000},
        Peaks({"fast": 2e12}, {"fast": ""}, 2e9),
        1,
    )
    numbers = ("2.0000", "1.7500", "1500.0", "75%", "2.0000", "1.00")
    assert lines == [
        ("conv", "direct", "1x2", "fast", *numbers),
        ("add", "add", "", "", "0.5000", "0.2500", "-", "-", "-", "-"),
    ]
    assert {len(line) for line in lines} == {len(HEADER)}


def test_the_summary_adds_all_steps(compiled: Compiled) -> None:
    times = step_times(compiled, subject().image, PEAKS, 1, LoadProbe(always_quiet), runs=3)
    assert [step.node for step in times] == [step.node for step in compiled.built.plan.steps]
    half = [replace(s, ms=2.0, again_ms=1.0, peak_ms=1.0 * s.multiplies) for s in times]
    sums = f"{2 * len(times)}.000 ({len(times)}.000) ms"
    shares = "3x3 50% (100%) of the peak, all layers 50% (100%) of the peak"
    assert summary(compiled, half) == f"{sums}, {shares}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--bits", "w4a4"], "name a --network", id="policy-without-network"),
        pytest.param(["--network", "resnet19"], "'resnet19' is not available", id="network"),
        pytest.param(["--network", "resnet18", "--bits", "w9a9"], "use w8a8", id="bits"),
        pytest.param(["--network", "resnet18", "--target", "arm64"], "does not run", id="target"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output
