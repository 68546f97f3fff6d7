"""What killed servers and their clients leave is removed; what is in use stays."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.boards import (
    Board,
    StartBoard,
    call,
    connect,
    library,
    shake_hands,
    upload,
    wait_until,
)
from tests.support.trackers import Tracker


@pytest.fixture
def restart(server: Path) -> Iterator[Callable[[Path], Board]]:
    """Return a function that starts another server on a work folder."""
    started: list[Board] = []

    def start(work: Path) -> Board:
        started.append(Board([str(server), "--port", "0", "--key", "again"], work))
        return started[-1]

    yield start
    for board in started:
        board.stop(signal.SIGKILL)


def test_folders_of_killed_servers(
    tracker: Tracker, start_board: StartBoard, restart: Callable[[Path], Board]
) -> None:
    board = start_board(tracker)
    (board.work / "gmpq-board-file").touch()
    with shake_hands(tracker) as client:
        child = int(board.wait_log(r"served by process (\d+)")[1])
        board.stop(signal.SIGKILL)
        assert client.recv(100) == b""
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    again = restart(board.work)
    again.wait_log("gmpq-board-.* removed: its server has ended")
    assert [path.name for path in board.work.iterdir()] == ["gmpq-board-file"]


def test_folders_of_other_servers_stay(
    tracker: Tracker, start_board: StartBoard, restart: Callable[[Path], Board]
) -> None:
    board = start_board(tracker)
    with shake_hands(tracker):
        board.wait_log("served by process")
        (folder,) = board.work.iterdir()
        restart(board.work)
        assert list(board.work.iterdir()) == [folder]


def test_folders_that_clients_close(
    tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    board = start_board(tracker)
    session = connect(tracker)
    body = 'system("mkdir -p a/b && touch a/b/c && chmod 0 a/b a .");'
    closing = library(tmp_path, "close", body)
    upload(session, closing)
    call(session, "tvm.rpc.server.load_module", closing.name)
    del session
    board.wait_log("ended after .* s")
    assert list(board.work.iterdir()) == []
