"""Jobs get done while boards vanish, crash or are held by others, and nothing waits for ever."""

from __future__ import annotations

import gc
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.backends.rpc.pool import DevicePool, Report, run
from gmpq.backends.rpc.tasks import RunConfig, RunTask
from tests.support import trackers
from tests.support.board_programs import VALUES, job
from tests.support.boards import StartBoard, shake_hands
from tests.support.trackers import Tracker


def devices(tracker: Tracker, **more: object) -> DevicePool:
    return replace(DevicePool(tracker.address, "board", deadline_s=60, distinct=True), **more)


def done(report: Report) -> list[bytes]:
    """Return the values that the boards sent which did the whole job."""
    return [(v.values / "0").read_bytes() for _, v in report.sessions if v.done]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sessions"
    made.mkdir()
    return made


@pytest.fixture
def program(tmp_path: Path) -> RunTask:
    return job(tmp_path)


def test_values_and_times(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    told: list[str] = []
    report = run(devices(tracker), [program], folder, told.append)
    ((index, session),) = report.sessions
    assert (index, session.failed, session.disconnected, report.missing) == (0, "", "", [])
    assert done(report) == [VALUES]
    assert len(session.runs_ms) == 10
    assert [len(steps) for steps in session.steps_ms] == [2] * 10
    assert session.before["machine"] == session.after["machine"] == program.machine
    assert told == [f"running on 127.0.0.1:{board.port}"]


def test_a_signal_that_meets_a_task_is_no_report(
    program: RunTask,
    folder: Path,
    tracker: Tracker,
    start_board: StartBoard,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start_board(tracker)

    def end(_line: str) -> None:
        sys.exit(143)  # as the handler of a signal does

    with pytest.raises(SystemExit):
        run(devices(tracker), [program], folder, end)
    gc.collect()  # tasks report when they are deleted
    assert [each for each in caplog.records if each.name == "asyncio" and each.levelno > 20] == []


def test_a_board_that_vanishes_is_replaced(
    tmp_path: Path, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    for _ in range(2):
        start_board(tracker)
    # its session ends a moment after it, and must not go on in between
    dies = job(tmp_path, "if (calls == 12 && first()) for (kill(getppid(), SIGKILL);;) sleep(9);")
    report = run(devices(tracker), [dies], folder)
    first, second = (session for _, session in report.sessions)
    assert first.disconnected
    assert first.samples == 1
    assert 0 < len(first.runs_ms) < 10  # what it had told is kept
    assert second.done
    assert first.board != second.board
    assert done(report) == [VALUES]


def test_a_board_that_falls_silent_is_replaced(
    tmp_path: Path, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    boards = [start_board(tracker) for _ in range(2)]
    stops = job(tmp_path, "if (calls == 12 && first()) for (;;) sleep(1000);")
    report = run(devices(tracker, idle_timeout_s=5.0), [stops], folder)
    first, second = (session for _, session in report.sessions)
    assert first.disconnected == "silent for 5 s"
    assert second.done
    for board in boards:
        board.stop()


def test_programs_that_crash_are_not_tried_again(
    tmp_path: Path, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    for _ in range(2):
        start_board(tracker)
    report = run(devices(tracker), [job(tmp_path, "__builtin_trap();")], folder)
    ((_, session),) = report.sessions
    assert session.failed.startswith("SIGILL: the program has an instruction")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param("return 7;", "steps 0 to 1 failed with status 7", id="status"),
        pytest.param("sleep(1000);", "the board's limit of 5.0 s is over", id="limit"),
    ],
)
def test_programs_that_fail(
    body: str, told: str, tmp_path: Path, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker, "--limit", "5")
    report = run(devices(tracker), [job(tmp_path, body)], folder)
    assert [session.failed for _, session in report.sessions] == [told]


def test_files_that_are_torn(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker)
    params = Path(program.directory) / "params.bin"
    params.write_bytes(b"")
    report = run(devices(tracker), [program], folder)
    ((_, session),) = report.sessions
    assert session.failed == "params.bin: has 0 bytes instead of 1: upload it again"


def test_threads_that_cannot_be(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker)
    report = run(devices(tracker), [replace(program, threads=2)], folder)
    assert [session.failed for _, session in report.sessions] == ["cannot run on 2 threads"]


def test_programs_for_another_machine(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker)
    report = run(devices(tracker), [replace(program, machine="riscv64")], folder)
    ((_, session),) = report.sessions
    assert "the program for riscv64: compile for its --target" in session.failed


def test_boards_of_a_key_work_at_once(
    tmp_path: Path, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    ports = {start_board(tracker).port for _ in range(2)}
    # Each of both processes waits until the other one runs too.
    meets = f'if (calls == 1 && !first()) creat("{tmp_path}/second", 0600); ' + (
        f'while (access("{tmp_path}/second", F_OK)) usleep(1000);'
    )
    slow = job(tmp_path, meets)
    report = run(devices(tracker, boards=2), [slow, slow], folder)
    assert [session.failed + session.disconnected for _, session in report.sessions] == ["", ""]
    assert done(report) == [VALUES, VALUES]
    assert {session.board.port for _, session in report.sessions} == ports


def test_fewer_boards_than_wanted(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    report = run(devices(tracker, boards=2), [program, program], folder)
    assert done(report) == [VALUES]
    assert report.missing == ["no board of 'board' is left: the tracker knows 1"]
    board.stop()


def test_jobs_share_a_board_where_they_may(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker)
    report = run(devices(tracker, distinct=False), [program] * 3, folder)
    assert done(report) == [VALUES] * 3
    assert [index for index, _ in report.sessions] == [0, 1, 2]


def test_who_holds_the_boards_is_told(
    program: RunTask, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    with shake_hands(tracker) as client:
        board.wait_log("served by process")
        tracker.wait_until_known(lambda told: told["client"] is not None)
        report = run(devices(tracker, deadline_s=1.0), [program], folder)
        address = f"127.0.0.1:{client.getsockname()[1]}"
    assert report.sessions == []
    assert report.missing == [
        f"no board of 'board' was free within 1 s: 127.0.0.1:{board.port} serves {address}"
    ]


def test_a_tracker_that_goes_ends_no_visit(
    tmp_path: Path, folder: Path, start_board: StartBoard
) -> None:
    with trackers.running() as tracker:
        start_board(tracker)
        slow = job(tmp_path, "usleep(10000);", RunConfig(repeat=50))

        def told(_: str) -> None:
            tracker.close_connections()

        report = run(devices(tracker, boards=2), [slow, slow], folder, told)
    assert done(report) == [VALUES]
    assert len(report.missing) == 1


def test_a_deadline_ends_everything(
    tmp_path: Path, folder: Path, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    slow = job(tmp_path, "usleep(1000);", RunConfig(repeat=100_000))
    report = run(devices(tracker, deadline_s=5.0), [slow], folder)
    ((_, session),) = report.sessions
    assert not session.done
    assert "is over" in session.disconnected + session.failed
    board.wait_log("ended after")
    assert board.stop(signal.SIGTERM) == 0
