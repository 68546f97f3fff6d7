"""IPv6 addresses, guests that say nothing, and what a tracker's answers do to the log."""

from __future__ import annotations

import json
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pytest

from tests.support import trackers
from tests.support.boards import MAGIC, Board, StartBoard, shake_hands
from tests.support.trackers import Tracker

MOST_GUESTS = 32
Start: TypeAlias = Callable[..., Board]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def start(server: Path, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a board with any options."""
    with ExitStack() as stack:

        def begin(*options: str) -> Board:
            board = Board([str(server), "--port", "0", "--key", "k", *options], tmp_path)
            stack.callback(board.stop, signal.SIGKILL)
            return board

        yield begin


def is_served(host: str, port: int) -> bool:
    words = b"client:k"
    with socket.create_connection((host, port), timeout=60) as client:
        client.sendall(struct.pack("<ii", MAGIC, len(words)) + words)
        return client.recv(4) == struct.pack("<i", MAGIC)


@ipv6
@pytest.mark.parametrize("allowed", ["::1", "0:0:0:0:0:0:0:1", "192.0.2.1,::0001"])
def test_ipv6_clients(allowed: str, start: Start) -> None:
    board = start("--host", "::1", "--allow-from", allowed)
    board.wait_log(r"listening on \[::1\]:")
    assert is_served("::1", board.port)
    board.wait_log(r"\[::1\]:\d+ served")


def test_ipv4_clients_as_ipv6_ones(start: Start) -> None:
    board = start("--allow-from", "::ffff:127.0.0.1")
    assert is_served("127.0.0.1", board.port)


@ipv6
def test_ipv6_trackers(start: Start) -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        start("--tracker", f"[::1]:{port}")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(4) == struct.pack("<i", 0x2F271)


def test_silent_guests_make_room(tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    with ExitStack() as stack:
        for _ in range(MOST_GUESTS):
            stack.enter_context(socket.create_connection(("127.0.0.1", board.port)))
        with shake_hands(tracker):
            board.wait_log("refused: shows no key while others wait")
            board.wait_log("served by process")


def test_answers_of_a_tracker_are_cited(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    rude = SimpleNamespace(loads=json.loads, dumps=lambda _: "\x1b[31m\n" * 5000)
    monkeypatch.setattr(trackers, "json", rude)
    board = start("--tracker", str(tracker.address))
    line = board.wait_log('refuses: ".*').string
    assert line.rstrip("\n").isprintable()
    assert len(line) < 300
