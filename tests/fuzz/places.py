"""Generated places, where something else is than what a command looks for, and trackers."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from tests.fuzz.documents import COMPILE, OWN, WEIGHTS, Workspace, damaged
from tests.support.mutants import torn

ODD = "odd"


def occupy(path: Path, rng: random.Random) -> str:
    """Put something odd at ``path``; return how a command is told of it."""
    match rng.randrange(9):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to(path)
        case 2:
            path.symlink_to(path.with_name("nowhere"))
        case 3:
            path.mkdir()
            (path / "notes.txt").write_text("mine", "utf-8")
        case 4:
            path.mkdir()
            (path / "manifest.json").write_text('{"kind": "gmpq output"}', "utf-8")
        case 5:
            path.write_bytes(rng.randbytes(50))
        case 6:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        case 7:
            path.write_bytes(b"")
        case _:
            places = ("/dev/zero", "/dev/null", "/dev/null/x", "/proc/self/mem", "/proc/x", "/")
            return rng.choice((*places, "x" * 5000, "x/" * 2000, "no/such", "", ".", "..", "a\nb"))
    return path.name


def places(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Name a place where something odd is."""
    place = occupy(space.folder / ODD, rng)
    data = ("--calibration", "images.npy")
    return rng.choice(
        (
            ("compile", place, *COMPILE[2:], *data),
            (*COMPILE, *WEIGHTS, place),
            (*COMPILE, "--calibration", place),
            (*COMPILE, *data, "--out", place),
            (*COMPILE, *data, "--out", f"{place}/out"),
            (*COMPILE, *data, "--import", f"{place}:small"),
            ("verify", place),
            ("explain", place, *OWN),
            ("explain", place, "--loss"),
            ("bench", place, "--tracker", place, "--key", place),
            ("search", "sensitivity", place, *OWN, "-o", "found.json", "--bits", "3"),
            ("photograph", place),
        )
    )


BOARD = {"key": "server:none", "addr": ["10.0.0.5", 9090], "client": "10.0.0.9:5000"}
HOSTS = ("", ":", "a:b", "[::1:1", "[::1]:0", "a..b:9", "h:99999", f"{'h' * 300}:9", "::1:1")


class Tracker:
    """Greets one client after another, says ``answer``, and closes."""

    def __init__(self) -> None:
        self.answer = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                client, _ = self.listener.accept()
                with client, suppress(OSError):
                    client.sendall(client.recv(4, socket.MSG_WAITALL))
                    client.recv(1 << 16)
                    client.sendall(self.answer)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1)  # until the client has gone, so that it reads everything


def answer(rng: random.Random) -> bytes:
    """Return what a tracker answers: its length and JSON, most of it damaged."""
    summary = damaged([0, {"server_info": [BOARD] * rng.randrange(3)}], rng)
    size = rng.choice((0, -1, 1, 2**31 - 1)) if rng.random() < 0.1 else len(summary)
    content = struct.pack("<i", size) + summary
    return torn(content, rng) if rng.random() < 0.1 else content


def addresses(_space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Name an address that is none, or where nobody listens."""
    text = rng.choice((*HOSTS, f"127.0.0.1:{rng.randrange(1, 9)}"))
    return ("bench", "compiled", "--tracker", text, "--key", "none")
