from __future__ import annotations

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
