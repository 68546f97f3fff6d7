"""Board servers of this machine as processes, and clients that talk to them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import tvm_ffi

from gmpq.backends.rpc.server.build import SERVER, cached
from gmpq.backends.rpc.worker import load_runtime
from tests.support import trackers
from tests.support.trackers import Tracker

TRIPLE = f"{platform.machine()}-linux-gnu"
MAGIC = 0xFF271
PATIENCE_S = 60.0  # of tests that would hang otherwise

Session: TypeAlias = Any  # a module of TVM whose functions are the board's


class Board:
    """A running server; ``log`` is what it has printed, ``work`` where it keeps files."""

    def __init__(self, command: list[str], work: Path) -> None:
        self.work = work
        self.log: list[str] = []
        self.heard = threading.Condition()
        self.process = subprocess.Popen(
            [*command, "--work", str(work)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        listening = self.wait_log(r"listening on .*:(\d+) as")
        self.port = int(listening[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                with self.heard:
                    self.log.append(line)
                    self.heard.notify_all()

    def wait_log(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Return the match of ``pattern`` in the log, after waiting for it."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.log if (match := re.search(pattern, line))]

        with self.heard:
            self.heard.wait_for(lambda: len(found()) >= times, PATIENCE_S)
            assert len(found()) >= times, f"{pattern} is not in\n{''.join(self.log)}"
            return found()[times - 1]

    def children(self) -> list[int]:
        """Return the processes that the server has started and not ended."""
        pid = self.process.pid
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.reader.join()
        return code


StartBoard: TypeAlias = Callable[..., Board]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the server, built for this machine."""
    if shutil.which("c++") is None:
        pytest.skip("the board server needs a C++ compiler: apt-get install g++")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return cached(TRIPLE, None, shared / "servers") / SERVER


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with trackers.running() as running:
        yield running


@pytest.fixture
def start_board(server: Path, tmp_path: Path) -> Iterator[StartBoard]:
    """Return a function that starts a board: ``start_board(tracker, "--limit", "5")``."""
    started: list[Board] = []

    def start(tracker: Tracker | None, *more: str, key: str = "board") -> Board:
        work = tmp_path / f"board{len(started)}"
        work.mkdir()
        where = [] if tracker is None else ["--tracker", str(tracker.address)]
        command = [str(server), "--port", "0", "--key", key, *where, *more]
        started.append(Board(command, work))
        if tracker is not None:
            tracker.wait_for(key)
        return started[-1]

    yield start
    for board in started:
        if board.process.poll() is None:
            board.stop(signal.SIGKILL)
        board.reader.join()


def connect(tracker: Tracker, key: str = "board", *, timeout_s: float = 60) -> Session:
    """Return a session on a board that the tracker hands out."""
    host, port, match_key = tracker.take(key)
    return connect_to(host, port, match_key, timeout_s=timeout_s)


def connect_to(host: str, port: int, match_key: str, *, timeout_s: float = 60) -> Session:
    load_runtime()
    key = f"{match_key} -timeout={timeout_s}"
    return tvm_ffi.get_global_func("rpc.Connect")(host, port, key, False)


def call(session: Session, name: str, *given: Any) -> Any:
    return session.get_function(name)(*given)


def upload(session: Session, path: Path) -> None:
    call(session, "tvm.rpc.server.upload", path.name, path.read_bytes())


def shake_hands(tracker: Tracker, key: str = "board") -> socket.socket:
    """Return the socket of a client that has been let in and has not said anything else."""
    host, port, match_key = tracker.take(key)
    client = socket.create_connection((host, port))
    client.settimeout(PATIENCE_S)
    words = f"client:{match_key}".encode()
    client.sendall(struct.pack("<ii", MAGIC, len(words)) + words)
    answer = client.recv(8 + len(f"server:{key}"), socket.MSG_WAITALL)
    assert struct.unpack("<i", answer[:4]) == (MAGIC,)
    return client


def library(folder: Path, name: str, body: str) -> Path:
    """Return a library that does ``body`` when it is loaded."""
    source = folder / f"{name}.c"
    source.write_text(
        "#include <unistd.h>\n#include <stdlib.h>\n"
        f"__attribute__((constructor)) static void load(void) {{ {body} }}\n"
    )
    made = folder / f"{name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    return made


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
