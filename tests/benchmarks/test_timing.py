from __future__ import annotations

import time
from itertools import count, cycle

import pytest

from versus.timing import Plan, round_robin


def test_programs_run_in_turn_and_the_first_turn_does_not_count() -> None:
    calls: list[str] = []
    plan = Plan(seconds=0, least=2, runs=3)
    found = round_robin({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, plan)
    turn = ["a"] * 4 + ["b"] * 4  # one that is not counted, three that are
    assert calls == turn * 3
    assert [measured.timing.runs for measured in found.values()] == [6, 6]


def test_turns_are_bounded() -> None:
    calls: list[int] = []
    round_robin({"a": lambda: calls.append(0)}, Plan(seconds=1e9, least=1, most=4, runs=1))
    assert len(calls) == 2 * 5


def test_a_thread_that_works_is_seen() -> None:
    measured = round_robin({"sum": lambda: sum(range(20_000))}, Plan(seconds=0))["sum"]
    timing = measured.timing
    assert 0 < timing.min_ms <= timing.median_ms <= timing.p90_ms
    assert measured.processor_ms > 0
    assert measured.cores > 0


def test_runs_that_others_disturbed_do_not_count() -> None:
    readings = iter([1.0, 1.0] + [1.0, 1.01, 1.0, 1.5, 1.02, 1.0] * 50)
    plan = Plan(seconds=1e9, least=3, undisturbed=6, most=4, runs=2)
    measured = round_robin({"a": lambda: None}, plan, lambda: next(readings))["a"]
    assert (measured.timing.runs, measured.quiet) == (6, 0.75)


def test_disturbed_runs_show_in_the_median_of_all() -> None:
    readings, naps = cycle([1.0, 1.0, 2.0, 2.0]), cycle([0.0, 0.0, 0.002, 0.002])
    plan = Plan(seconds=1e9, undisturbed=6, most=6)  # two of three are disturbed, and slow
    found = round_robin({"a": lambda: time.sleep(next(naps))}, plan, lambda: next(readings))["a"]
    assert found.all_ms >= 2
    assert found.timing.runs == 6


def test_where_one_program_was_hardly_undisturbed_all_runs_of_all_count() -> None:
    readings = cycle([1.0, 1.0, 2.0, 2.0])  # around a run of each of two programs
    plan = Plan(seconds=0, least=4, undisturbed=3, most=4, runs=1)
    found = round_robin({"quiet": lambda: None, "loud": lambda: None}, plan, lambda: next(readings))
    assert [measured.timing.runs for measured in found.values()] == [4, 4]
    assert [measured.quiet for measured in found.values()] == [1.0, 0.0]


def test_where_quiet_moments_were_rare_all_runs_count() -> None:
    readings = cycle([1.0, 1.0, *[2.0] * 18])  # one of ten runs is undisturbed
    plan = Plan(seconds=1e9, undisturbed=3, most=40, runs=1)
    found = round_robin({"a": lambda: None}, plan, lambda: next(readings))["a"]
    assert (found.timing.runs, found.quiet) == (40, 0.1)


def test_turns_go_on_until_enough_runs_are_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()  # three looks at it a turn
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) / 3)
    readings = iter([1.0] * 2 + [2.0] * 10 + [1.0] * 99)  # two a turn, of which the sixth is quiet
    plan = Plan(seconds=3, least=1, undisturbed=2, runs=1)
    found = round_robin({"a": lambda: None}, plan, lambda: next(readings))["a"]
    assert (found.timing.runs, found.quiet) == (2, 2 / 7)
