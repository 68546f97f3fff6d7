"""Kernels are measured on boards, which may vanish, crash, be busy, or be of another kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from gmpq.backends.rpc.pool import DevicePool
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.plan import Choice, Plan, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.tuning import boards as tune_boards
from gmpq.backends.tvm.tuning.boards import device_model, tuned_on
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import Tuning, name_of, tuned
from gmpq.errors import BoardError
from gmpq.ir import Conv2d, IntGraph, Window
from gmpq.program import PREFIX, Program, ProgramStep
from tests.support import board_programs
from tests.support.boards import StartBoard, shake_hands
from tests.support.builders import Q8, chain, residual, weight
from tests.support.trackers import Tracker

NATIVE = find("native")
DIES = "if (calls == 3 && first()) for (kill(getppid(), SIGKILL);;) sleep(9); return 0;"
Fakes: TypeAlias = Callable[..., list[Sequence[Choice]]]


def two_layers() -> IntGraph:
    """Return two convolutions of different sizes."""
    image, wide = (1, 16, 4, 4), (1, 32, 4, 4)
    one = Conv2d("one", ("codes",), "", weight((32, 16, 1, 1), 4, Q8, Q8), Window((1, 1)))
    two = Conv2d("two", ("",), "", weight((16, 32, 1, 1), 4, Q8, Q8), Window((1, 1)))
    return chain([(one, wide, Q8), (two, image, Q8)], image, Q8)


def devices(tracker: Tracker, **more: Any) -> DevicePool:
    return replace(DevicePool(tracker.address, "board", deadline_s=60), **more)


def measured(
    graph: IntGraph, boards: DevicePool, cache: Path, level: TuningLevel = TuningLevel.QUICK
) -> tuple[Tuning, list[str]]:
    """Return the tuning after a run on boards, and what was told."""
    told: list[str] = []
    tuning = Tuning(level, 1, cache, device_model(boards, NATIVE))
    return tuned_on(boards, graph, NATIVE, tuning, told.append), told


def known(cache: Path) -> dict[str, Any]:
    """Return the results in ``cache``."""
    results: dict[str, Any] = json.loads(cache.read_text())["results"] if cache.exists() else {}
    return results


def planned(graph: IntGraph, tuning: Tuning) -> Plan:
    def never(layer: str) -> None:
        raise AssertionError(f"{layer} is measured on this machine")

    return plan(graph, NATIVE, tuned(tuning, never))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "kernels.json"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fakes:
    """Return a function that makes every layer's program do what it is told, in order."""

    def replaced(*bodies: str) -> list[Sequence[Choice]]:
        tried: list[Sequence[Choice]] = []
        numbers = count()

        def write(site: Site[Target], choices: Sequence[Choice], folder: Path) -> Program:
            tried.append(choices)
            body = bodies[min(next(numbers), len(bodies) - 1)]
            board_programs.write(folder, body, tmp_path / "marker")
            steps = [ProgramStep(str(number), "", ()) for number in range(len(choices))]
            return replace(
                board_programs.PROGRAM, prefix=PREFIX, inputs=(), outputs=(), steps=tuple(steps)
            )

        monkeypatch.setattr(tune_boards, "write_candidates", write)
        return tried

    return replaced


def test_what_a_board_measured_is_remembered_and_decides(
    cache: Path, tmp_path: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    tuning, told = measured(residual(), devices(tracker), cache)
    assert told == ["tuning block.conv", f"running on 127.0.0.1:{board.port}"]
    built = build(residual(), NATIVE, tmp_path, tuned(tuning, told.append))
    (step,) = (step for step in built.plan.steps if step.node == "block.conv")
    chosen = f"{step.kernel} {step.configuration}".rstrip()
    assert len(step.measured_ms) > 1
    assert chosen == min(step.measured_ms, key=step.measured_ms.__getitem__)
    again, told_again = measured(residual(), devices(tracker), cache)
    assert (told_again, again.found) == ([], {})
    assert planned(residual(), again).steps[-2].configuration == built.plan.steps[-2].configuration
    board.wait_log("ended after .* s: done", 3)  # two asked what it is


def test_the_fastest_step_is_taken(
    cache: Path, tracker: Tracker, start_board: StartBoard, fakes: Fakes
) -> None:
    start_board(tracker)
    tried = fakes("usleep(begin == 1 ? 0 : 3000); return 0;")
    tuning, _ = measured(residual(), devices(tracker), cache)
    (choices,) = tried
    (step,) = (s for s in planned(residual(), tuning).steps if s.node == "block.conv")
    assert f"{step.kernel} {step.configuration}".rstrip() == name_of(choices[1])


def test_boards_of_a_key_measure_at_once(
    cache: Path, tmp_path: Path, tracker: Tracker, start_board: StartBoard, fakes: Fakes
) -> None:
    boards = [start_board(tracker) for _ in range(2)]
    # Each of both processes waits until the other one runs too.
    fakes(
        f'if (calls == 1 && !first()) creat("{tmp_path}/second", 0600); '
        f'while (access("{tmp_path}/second", F_OK)) usleep(1000); return 0;'
    )
    tuning, _ = measured(two_layers(), devices(tracker, boards=2), cache)
    assert len(tuning.found) == 2
    for board in boards:
        board.wait_log("ended after .* s: done")


def test_a_board_that_vanishes_is_replaced(
    cache: Path, tracker: Tracker, start_board: StartBoard, fakes: Fakes
) -> None:
    for _ in range(2):
        start_board(tracker)
    fakes(DIES)
    tuning, told = measured(residual(), devices(tracker), cache)
    assert len(tuning.found) == 1
    assert len([line for line in told if line.startswith("running on")]) == 2


def test_the_next_run_goes_on(
    cache: Path, tracker: Tracker, start_board: StartBoard, fakes: Fakes
) -> None:
    start_board(tracker)
    fakes("return 0;", "return 7;")
    with pytest.raises(BoardError, match=r"^two: not measured: 127.* goes on from there$"):
        measured(two_layers(), devices(tracker), cache)
    assert len(known(cache)) == 1
    fakes("return 0;")
    tuning, told = measured(two_layers(), devices(tracker), cache)
    assert told[0] == "tuning two"
    assert len(tuning.found) == 1
    assert len(known(cache)) == 2
    assert all(step.measured_ms for step in planned(two_layers(), tuning).steps[1:3])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param("__builtin_trap();", "SIGILL: the program has an instruction", id="isa"),
        pytest.param("return 7;", "steps 0 to 1 failed with status 7", id="status"),
    ],
)
def test_programs_that_fail(
    body: str, why: str, cache: Path, tracker: Tracker, start_board: StartBoard, fakes: Fakes
) -> None:
    board = start_board(tracker)
    fakes(body)
    with pytest.raises(BoardError, match=f"^block.conv: not measured: 127.*: {why}"):
        measured(residual(), devices(tracker), cache)
    assert known(cache) == {}
    assert device_model(devices(tracker), NATIVE)  # it serves still
    board.wait_log("ended after .* s: done", 2)


def test_emulated_boards_measure_no_time(tracker: Tracker, start_board: StartBoard) -> None:
    start_board(tracker, "--emulated", "cortex-a72")
    with pytest.raises(BoardError, match="an emulated board measures no time: give the --key of"):
        device_model(devices(tracker), NATIVE)


def test_boards_that_differ(cache: Path, tracker: Tracker, start_board: StartBoard) -> None:
    start_board(tracker)
    tuning = Tuning(TuningLevel.QUICK, 1, cache, "Cortex-A999")
    with pytest.raises(BoardError, match="another one Cortex-A999: give boards that differ other"):
        tuned_on(devices(tracker), residual(), NATIVE, tuning)


def test_who_holds_the_board_is_told(tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    with shake_hands(tracker):
        board.wait_log("served by process")
        tracker.wait_until_known(lambda told: told["client"] is not None)
        with pytest.raises(BoardError, match=r"no board of 'board' was free within 1 s: .* serves"):
            device_model(devices(tracker, deadline_s=1.0), NATIVE)


def test_memory_that_is_too_much(
    cache: Path, tracker: Tracker, start_board: StartBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_board(tracker)
    monkeypatch.setattr(tune_boards, "flush_bytes_of", lambda _: 1 << 40)
    with pytest.raises(BoardError, match="other memory: 1099511627776 bytes cannot be held"):
        measured(residual(), devices(tracker), cache)
