"""The start script keeps the server running, and ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from tests.support.boards import Board


@pytest.fixture
def script(server: Path, tmp_path: Path) -> Path:
    (tmp_path / server.name).symlink_to(server)
    source = resources.files("gmpq.backends.rpc.server").joinpath("start.sh")
    return Path(shutil.copy(str(source), tmp_path / "start.sh"))


def test_a_server_that_ends_is_started_again(script: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    board = Board(["sh", str(script), "--key", "rpi", "--port", "0"], work)
    (server,) = board.children()
    os.kill(server, signal.SIGKILL)
    board.wait_log("gmpq-board ended with exit code 137: starting it again")
    board.wait_log("listening on", 2)
    assert board.stop() == 0
    board.wait_log("stopped")


def test_mistakes_end_it(script: Path) -> None:
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gmpq-board: --key is missing")
