"""Only regular files within a limit are read; whatever else a path names is refused at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gmpq.errors import PolicyError
from gmpq.files.untrusted import opened, read_bytes, read_text, require_file


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def listening(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def closed(path: Path) -> Path:
    path.symlink_to("/proc/1/mem")
    return path


PLACES = [
    pytest.param(lambda path: path, "no such file", id="missing"),
    pytest.param(lambda path: path / "a" / "b", "no such file", id="no-folder"),
    pytest.param(fifo, "is a FIFO: give a regular file", id="fifo"),
    pytest.param(listening, "is a socket: give a regular file", id="socket"),
    pytest.param(loop, "cannot be read: Too many levels of symbolic links", id="loop"),
    pytest.param(folder, "is a directory: give a regular file", id="directory"),
    pytest.param(lambda _: Path("/dev/zero"), "is a device: give a regular file", id="device"),
    pytest.param(lambda _: Path("a\0b"), "names no file: embedded null byte", id="zero-byte"),
    pytest.param(lambda _: Path("\ud800"), "names no file", id="half-a-pair"),
    pytest.param(lambda path: path / ("x" * 5000), "File name too long", id="long"),
]


@pytest.mark.parametrize(("make", "message"), PLACES)
def test_what_is_no_regular_file(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path / "x")
    for read in (read_text, read_bytes, require_file):
        with pytest.raises(PolicyError, match=message) as caught:
            read(path, PolicyError)
        assert "\n" not in str(caught.value)
    with pytest.raises(PolicyError, match=message), opened(path, PolicyError):
        pass


def test_a_limit_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, PolicyError, 5) == b"12345"
    for read in (read_text, read_bytes, require_file):
        with pytest.raises(PolicyError, match=r"x: has 5 bytes, at most 4 are read"):
            read(path, PolicyError, 4)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="has no file of unknown size")
def test_a_file_that_hides_its_size(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="at most 4 are read"):
        read_bytes(Path("/proc/self/maps"), PolicyError, 4)


def test_text_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes("é".encode("utf-8-sig"))
    assert read_text(path, PolicyError) == "é"
    path.write_bytes("aé".encode("latin-1"))
    with pytest.raises(PolicyError, match="x: byte 1 is not UTF-8: save it as UTF-8"):
        read_text(path, PolicyError)
