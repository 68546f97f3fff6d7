"""Libraries come out of wheels only if they are whole and of the right version."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from gmpq.backends.rpc.server import build, tvm_libraries
from gmpq.errors import BoardError

CONTENT = b"a library"


def write_wheels(folder: Path, content: bytes = CONTENT, machine: str = "aarch64") -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(CONTENT).digest()).decode().rstrip("=")
    for distribution, package, library in tvm_libraries.LIBRARIES:
        name = f"{distribution.replace('-', '_')}-{version(distribution)}"
        path = folder / f"{name}-py3-none-manylinux_2_28_{machine}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{package}/lib/{library}", content)
            archive.writestr(
                f"{name}.dist-info/RECORD", f"{package}/lib/{library},sha256={digest},9\n"
            )


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    made = tmp_path / "wheels"
    made.mkdir()
    return made


def test_libraries_of_wheels(wheels: Path, tmp_path: Path) -> None:
    write_wheels(wheels)
    tvm_libraries.unpack(wheels, "aarch64", tmp_path)
    assert (tmp_path / "libtvm_runtime.so").read_bytes() == CONTENT
    assert (tmp_path / "libtvm_ffi.so").read_bytes() == CONTENT


def test_damaged_libraries(wheels: Path, tmp_path: Path) -> None:
    write_wheels(wheels, b"another one")
    with pytest.raises(BoardError, match=r"differs from its digest\): fetch it again"):
        tvm_libraries.unpack(wheels, "aarch64", tmp_path)


def test_damaged_wheels(wheels: Path, tmp_path: Path) -> None:
    write_wheels(wheels)
    for path in wheels.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BoardError, match=r"\.whl: damaged"):
        tvm_libraries.unpack(wheels, "aarch64", tmp_path)


def test_wheels_of_another_machine(wheels: Path, tmp_path: Path) -> None:
    write_wheels(wheels, machine="x86_64")
    with pytest.raises(BoardError, match=r"holds no apache_tvm-.*aarch64.whl: pip download --no-d"):
        tvm_libraries.unpack(wheels, "aarch64", tmp_path)


def test_pip_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "a\nERROR: No matching distribution found\n")
    monkeypatch.setattr(tvm_libraries.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(BoardError, match=r"\(ERROR: No matching .* and give --wheels FOLDER"):
        tvm_libraries.fetch("aarch64", tmp_path)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BoardError, match=r"no C\+\+ compiler for aarch64-linux-gnu: install g\+\+"):
        build.build("aarch64-linux-gnu", None, tmp_path)


def test_machines_without_wheels(tmp_path: Path) -> None:
    with pytest.raises(
        BoardError, match="no gmpq-board for armv7l: TVM has wheels for aarch64 and"
    ):
        build.build("armv7l-linux-gnueabihf", None, tmp_path)


def test_a_server_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []
    monkeypatch.setattr(build, "build", lambda _triple, _wheels, folder: built.append(folder))
    first = build.cached("aarch64-linux-gnu", None, tmp_path / "cache")
    assert build.cached("aarch64-linux-gnu", None, tmp_path / "cache") == first
    assert len(built) == 1
    assert [path.name for path in first.parent.iterdir()] == [first.name]
