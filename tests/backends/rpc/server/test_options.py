"""The server's command line: help, and one line for every mistake."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest


def told(server: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([str(server), *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_help(server: Path) -> None:
    code, out, err = told(server, "--help")
    assert (code, err) == (0, "")
    for option in ("--key", "--tracker", "--host", "--allow-from", "--limit", "--emulated"):
        assert option in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--key is missing"),
        (["--key", "a b"], "--key a b: give 1 to 64 letters"),
        (["--key", "k", "--port", "70000"], "--port 70000: give a whole number from 0 to 65535"),
        (["--key", "k", "--limit", "0"], "--limit 0: give a whole number from 1"),
        (["--key", "k", "--limit", "-1"], "--limit -1: give a whole number"),
        (["--key", "k", "--tracker", "host"], "--tracker host: give HOST:PORT"),
        (["--key", "k", "--tracker", "host:x"], "--tracker host:x: give HOST:PORT"),
        (["--key", "k", "--tracker", "::1:9190"], "in brackets, as [fd00::2]:9190"),
        (["--key", "k", "--tracker", "[host]:9190"], "in brackets, as [fd00::2]:9190"),
        (["--key", "k", "--tracker", "[]:9190"], "in brackets, as [fd00::2]:9190"),
        (["--key", "k", "--host", "nowhere"], "--host nowhere: give an address"),
        (["--key", "k", "--allow-from", "1.2.3.4,x"], '"x" is no address'),
        (["--key", "k", "--work", "/nowhere"], "--work /nowhere: not a folder"),
        (["--frob", "1"], "--frob: no such option"),
        (["--key"], "--key: its value is missing"),
        (["board"], "board: not an option"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line(server: Path, words: list[str], message: str) -> None:
    code, out, err = told(server, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("gmpq-board: ")
    assert err.count("\n") == 1


def test_a_port_that_is_taken(server: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, _, err = told(server, "--key", "k", "--port", port)
    assert code == 2
    assert err == f"gmpq-board: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
