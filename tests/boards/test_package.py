"""The folder for a board is written whole or not at all; an emulator's command is complete."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.target import find
from gmpq.boards import package
from gmpq.boards.package import Serving, build_board, emulation
from gmpq.errors import BoardError, OutputError
from gmpq.files import manifest

LIBRARIES = ("libtvm_runtime.so", "libtvm_ffi.so")
SERVING = Serving("cortex-a72", "127.0.0.1:9190", "rpi4", 0, 60)


def write_server(triple: str, wheels: Path | None, folder: Path) -> None:
    assert (triple, wheels) == ("aarch64-linux-gnu", None)
    for name in (package.SERVER, *LIBRARIES):
        (folder / name).write_bytes(b"")


def test_a_folder_for_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "build", write_server)
    out = tmp_path / "board"
    for _ in range(2):  # a folder of an earlier gmpq is replaced
        build_board("rpi4", None, out)
    found = {path.name for path in out.iterdir()}
    assert found == {package.SERVER, *LIBRARIES, "start.sh", "README.md", "manifest.json"}
    assert all(os.access(out / name, os.X_OK) for name in (package.SERVER, "start.sh"))
    assert "--key rpi4" in (out / "README.md").read_text()
    with pytest.raises(OutputError, match="is of another kind"):
        manifest.read(out)


def test_nothing_is_left_of_a_build_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(triple: str, wheels: Path | None, folder: Path) -> None:
        write_server(triple, wheels, folder)
        raise BoardError("no compiler")

    monkeypatch.setattr(package, "build", fail)
    with pytest.raises(BoardError, match="no compiler"):
        build_board("rpi4", None, tmp_path / "board")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def emulating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this machine have an emulator and a server, but no library yet; return their root."""
    monkeypatch.setattr(qemu, "missing", lambda _: None)
    monkeypatch.setattr(qemu, "LIBRARIES", tmp_path)
    monkeypatch.setattr(package, "cached", lambda *_: tmp_path / "cache")
    monkeypatch.setattr(package, "processors", lambda: ("cortex-a53", "cortex-a72"))
    root = tmp_path / find("arm64").triple
    (root / "lib").mkdir(parents=True)
    return root


def test_a_library_that_is_missing(emulating: Path, tmp_path: Path) -> None:
    assert emulating.exists()
    with pytest.raises(BoardError, match=r"cortex-a72: apt-get install libstdc\+\+6-arm64-cross"):
        emulation(SERVING, None, tmp_path)


def test_the_command_of_an_emulator(emulating: Path, tmp_path: Path) -> None:
    (emulating / "lib" / "libstdc++.so.6").touch()
    command = " ".join(emulation(SERVING, None, tmp_path))
    server = tmp_path / "cache" / "gmpq-board"
    assert command.startswith(f"qemu-aarch64 -cpu cortex-a72 -L {emulating} {server} --emulated")
    assert command.endswith("--key rpi4 --tracker 127.0.0.1:9190 --port 0 --limit 60")


def test_a_processor_that_nothing_emulates(emulating: Path, tmp_path: Path) -> None:
    (emulating / "lib" / package.LIBSTDCXX).touch()
    with pytest.raises(BoardError, match=r"'cortex-a35' is unknown.*mean cortex-a53") as told:
        emulation(replace(SERVING, cpu="cortex-a35"), None, tmp_path)
    assert str(told.value).endswith("choose one of cortex-a53, cortex-a72")


@pytest.mark.arm
@pytest.mark.skipif(shutil.which(package.QEMU) is None, reason="apt-get install qemu-user")
def test_the_processors_of_qemu() -> None:
    assert {"cortex-a53", "cortex-a72", "max"} <= set(package.processors())
