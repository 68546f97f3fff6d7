"""The board's server stays up whatever clients do, and leaves nothing of them behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from pathlib import Path

import pytest

from tests.support import trackers
from tests.support.boards import (
    MAGIC,
    StartBoard,
    call,
    connect,
    connect_to,
    library,
    shake_hands,
    upload,
    wait_until,
)
from tests.support.trackers import Tracker

LOAD = "tvm.rpc.server.load_module"


def serves(tracker: Tracker) -> None:
    """Assert that the next client is served."""
    assert json.loads(call(connect(tracker), "gmpq.board.information"))["protocol"] == 3


def test_a_client_is_served(tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    session = connect(tracker)
    told = json.loads(call(session, "gmpq.board.information"))
    assert told["machine"] == os.uname().machine
    assert told["cores"] == os.cpu_count()
    assert told["emulated"] is False
    call(session, "tvm.rpc.server.upload", "file", b"content")
    assert call(session, "tvm.rpc.server.download", "file") == b"content"
    (folder,) = board.work.iterdir()
    assert [path.name for path in folder.iterdir()] == ["file"]
    del session
    board.wait_log("ended after .* s: done")
    assert list(board.work.iterdir()) == []


@pytest.mark.parametrize("path", ["../file", "/tmp/file", "a/../../file", "..", ""])
def test_paths_that_lead_out(path: str, tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    session = connect(tracker)
    for name, *more in (("upload", b"x"), ("download",), ("remove",), ("load_module",)):
        with pytest.raises(RuntimeError, match="leads out of the session's folder: give a plain"):
            call(session, f"tvm.rpc.server.{name}", path, *more)
    with pytest.raises(RuntimeError, match="leads out of the session's folder"):
        call(session, "gmpq.board.open", path, path, 1, 1, 1, 1, "gmpq")
    assert {path.name for path in board.work.parent.iterdir()} == {board.work.name}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param("__builtin_trap();", "SIGILL: the program has an instruction that", id="isa"),
        pytest.param(
            "*(volatile int *)8 = 1;", "SIGSEGV: the client's program crashed", id="crash"
        ),
        pytest.param("abort();", "SIGABRT: the client's program crashed", id="abort"),
        pytest.param("kill(getpid(), 9);", "SIGKILL: the client's program crashed", id="kill"),
    ],
)
def test_programs_that_crash(
    body: str, told: str, tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    board = start_board(tracker)
    session = connect(tracker)
    upload(session, library(tmp_path, "crash", f"int kill(int, int); {body}"))
    with pytest.raises(RuntimeError, match=told):
        call(session, LOAD, "crash.so")
    board.wait_log(f"ended after .* s: {told}")
    serves(tracker)


@pytest.mark.parametrize(("body", "code"), [("_exit(3);", 3), ("exit(0);", 0)], ids=str)
def test_programs_that_end_the_process(
    body: str, code: int, tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    board = start_board(tracker)
    session = connect(tracker)
    upload(session, library(tmp_path, "leave", body))
    told = rf"the client's program called exit\({code}\)"
    with pytest.raises(RuntimeError, match=told):
        call(session, LOAD, "leave.so")
    board.wait_log(f"ended after .* s: {told}")
    serves(tracker)


@pytest.mark.parametrize(
    ("options", "asked_s"), [((), 2), (("--limit", "2"), 60)], ids=["the-client's", "the-board's"]
)
def test_time_limits(
    options: tuple[str, ...],
    asked_s: float,
    tracker: Tracker,
    start_board: StartBoard,
    tmp_path: Path,
) -> None:
    board = start_board(tracker, *options)
    sleeping = library(tmp_path, "sleep", "sleep(1000);")

    def be_served() -> None:
        session = connect(tracker, timeout_s=asked_s)
        upload(session, sleeping)
        call(session, LOAD, "sleep.so")

    with pytest.raises(RuntimeError, match=r"the board's limit of 2.0 s is over"):
        be_served()
    board.wait_log("limit of 2.0 s is over")
    serves(tracker)


def test_idle_clients_have_a_limit_too(tracker: Tracker, start_board: StartBoard) -> None:
    start_board(tracker, "--limit", "1")
    with shake_hands(tracker) as client:
        while client.recv(4096):
            pass
    serves(tracker)


def test_what_a_client_starts_ends_with_it(
    tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    board = start_board(tracker)
    session = connect(tracker)
    daemon = "if (fork() == 0) { setsid(); if (fork() == 0) for (;;) sleep(1000); _exit(0); }"
    upload(session, library(tmp_path, "daemon", f"{daemon} sleep(1); _exit(0);"))
    with pytest.raises(RuntimeError):
        call(session, LOAD, "daemon.so")
    board.wait_log(r"ended after .* s: the client's program called exit\(0\)")
    assert board.children() == []


def test_a_hundred_clients_leave_nothing(tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    before = board.descriptors()
    for number in range(100):
        session = connect(tracker)
        call(session, "tvm.rpc.server.upload", "file", bytes(1000))
        del session
        board.wait_log("ended after .* s: done", number + 1)
    wait_until(lambda: board.descriptors() == before)
    assert board.children() == []
    assert list(board.work.iterdir()) == []


def test_two_clients_at_once(tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    host, port, match_key = tracker.take("board")
    first = connect_to(host, port, match_key)
    with pytest.raises(RuntimeError, match="cannot find server that matches key"):
        connect_to(host, port, match_key)
    board.wait_log("shows a key that is not, or no longer, this board's")
    assert tracker.free == []  # nobody else is sent to a board that measures
    assert tracker.summary()["server_info"][0]["client"].startswith("127.0.0.1:")
    assert call(first, "gmpq.board.information")
    del first
    serves(tracker)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(struct.pack("<ii", MAGIC, 1 << 30), id="huge"),
        pytest.param(struct.pack("<ii", MAGIC, -1), id="negative"),
        pytest.param(struct.pack("<ii", MAGIC, 0), id="empty"),
    ],
)
def test_garbage_is_refused_at_once(
    garbage: bytes, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    with socket.create_connection(("127.0.0.1", board.port)) as client:
        client.sendall(garbage)
        board.wait_log("refused: is no client of TVM RPC")
    serves(tracker)


def test_clients_that_say_nothing_keep_nobody_waiting(
    tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    silent = [socket.create_connection(("127.0.0.1", board.port)) for _ in range(8)]
    silent[0].sendall(struct.pack("<i", MAGIC))
    serves(tracker)
    for client in silent:
        client.close()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(bytes(range(256)), id="bytes"),
        pytest.param(struct.pack("<Q", 1 << 62), id="huge-packet"),
        pytest.param(struct.pack("<QI", 4, 12345), id="unknown-code"),
    ],
)
def test_garbage_inside_a_session(
    message: bytes, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    with shake_hands(tracker) as client:
        client.sendall(message)
    board.wait_log("ended after")
    serves(tracker)


def test_a_truncated_upload(tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    with shake_hands(tracker) as client:
        client.sendall(struct.pack("<Q", 1 << 20) + bytes(1000))
    board.wait_log("ended after .* s: exit code 1")
    assert list(board.work.iterdir()) == []
    serves(tracker)


def test_libraries_that_are_torn(tracker: Tracker, start_board: StartBoard, tmp_path: Path) -> None:
    start_board(tracker)
    torn = library(tmp_path, "torn", "")
    torn.write_bytes(torn.read_bytes()[:100])
    session = connect(tracker)
    upload(session, torn)
    upload(session, torn.with_suffix(".c"))
    with pytest.raises(RuntimeError, match=r"torn.so: "):
        call(session, "gmpq.board.open", "torn.so", "torn.c", 1, 1, 1, 1, "gmpq")
    serves_still = json.loads(call(session, "gmpq.board.information"))
    assert serves_still["protocol"] == 3


def test_a_tracker_that_comes_back(start_board: StartBoard) -> None:
    with trackers.running() as tracker:
        board = start_board(tracker)
        port = tracker.address.port
    board.wait_log("has gone: dialing until it is back")
    with trackers.running(port) as again:
        again.wait_for("board")
        serves(again)
        assert len(again.boards) == 1


def test_a_board_that_is_never_visited_offers_itself_again(
    tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker)
    first = tracker.take("board")
    second = tracker.take("board")
    assert first[2] != second[2]


def test_clients_come_by_the_key_without_a_tracker(start_board: StartBoard) -> None:
    board = start_board(None, key="alone")
    for _ in range(2):
        session = connect_to("127.0.0.1", board.port, "alone")
        assert call(session, "gmpq.board.information")
        del session


def test_addresses_that_are_not_allowed(start_board: StartBoard) -> None:
    board = start_board(None, "--allow-from", "192.0.2.1,::1")
    with pytest.raises(RuntimeError):
        connect_to("127.0.0.1", board.port, "board")
    board.wait_log(r"127.0.0.1:\d+ refused: not in --allow-from")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_ending_the_server_ends_its_session(
    number: int, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    with shake_hands(tracker) as client:
        child = int(board.wait_log(r"served by process (\d+)")[1])
        assert board.stop(number) == 0
        assert client.recv(100) == b""
    assert not Path(f"/proc/{child}").exists()
    assert list(board.work.iterdir()) == []


def test_a_session_dies_with_a_server_that_is_killed(
    tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    with shake_hands(tracker) as client:
        board.wait_log("served by process")
        board.stop(signal.SIGKILL)
        assert client.recv(100) == b""
