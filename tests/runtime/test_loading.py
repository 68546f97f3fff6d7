"""A damaged compiled directory is refused in one line before anything runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmpq import runtime
from gmpq.errors import OutputError
from gmpq.runtime import shared_library
from tests.support.written_networks import layer, write


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    write(layer(0), folder)
    return folder


@pytest.fixture
def damaged(written: Path, tmp_path: Path) -> Path:
    """Return a copy for a test to damage."""
    return Path(shutil.copytree(written, tmp_path / "network"))


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    fields = json.loads(path.read_text("utf-8"))
    change(fields)
    path.write_text(json.dumps(fields), "utf-8")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-directory": (shutil.rmtree, "not an output of gmpq"),
    "no-library": (lambda f: (f / "model.so").unlink(), "model.so: missing: compile again"),
    "no-params": (lambda f: (f / "params.bin").unlink(), "params.bin: missing: compile again"),
    "params-folder": (
        lambda f: ((f / "params.bin").unlink(), (f / "params.bin").mkdir()),
        "params.bin: missing: compile again",
    ),
    "pipe": (
        lambda f: ((f / "model.so").unlink(), os.mkfifo(f / "model.so")),
        "model.so: missing: compile again",
    ),
    "one-byte": (lambda f: (f / "params.bin").write_bytes(b"1"), "params.bin: has 1 bytes instead"),
    "params": (lambda f: changed(f / "params.bin"), "params.bin: changed since it was compiled"),
    "library": (lambda f: changed(f / "model.so"), "model.so: changed since it was compiled"),
    "short": (lambda f: cut(f / "model.so", 5000), "model.so: is cut short: compile again"),
    "empty": (lambda f: cut(f / "model.so", 0), "model.so: is no shared library"),
    "null": (lambda f: (f / "manifest.json").write_text("null"), "manifest.json is missing or"),
    "list": (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json is missing or"),
    "latin": (lambda f: (f / "manifest.json").write_bytes(b'"\xe9"'), "missing or damaged"),
    "deep": (lambda f: (f / "manifest.json").write_text("[" * 10**5), "missing or damaged"),
    "no-program": (lambda f: edited(f, lambda m: m.pop("tvm")), "'workspace_bytes' is missing"),
    "no-files": (lambda f: edited(f, lambda m: m.pop("files")), "it has no digest of model.so"),
    "program-list": (lambda f: edited(f, lambda m: m.update(tvm=[])), "tvm must be an object"),
    "negative": (
        lambda f: edited(f, lambda m: m["tvm"].update(workspace_bytes=-1)),
        "'workspace_bytes' must hold whole numbers from 0 to 2**40, not -1",
    ),
    "small-workspace": (
        lambda f: edited(f, lambda m: m["tvm"].update(workspace_bytes=64)),
        "'x' lies outside of the workspace",
    ),
    "prefix": (lambda f: edited(f, lambda m: m["tvm"].update(prefix="no")), "cannot be loaded"),
    "odd-prefix": (lambda f: edited(f, lambda m: m["tvm"].update(prefix="\0")), "'prefix' must"),
    "features": (lambda f: edited(f, lambda m: m["tvm"].update(features=3)), "must be a list"),
    "step": (lambda f: edited(f, lambda m: m["tvm"].update(steps=[4])), "step must be an object"),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_directory_is_told(
    damage: Callable[[Path], object], told: str, damaged: Path
) -> None:
    damage(damaged)
    with pytest.raises(OutputError) as caught:
        runtime.load(damaged)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(damaged))
    assert "\n" not in str(caught.value)


def test_digests_may_be_skipped(damaged: Path) -> None:
    changed(damaged / "params.bin")
    runtime.load(damaged, check=False)
    cut(damaged / "model.so", 9000)
    with pytest.raises(OutputError, match="is cut short"):
        runtime.load(damaged, check=False)


@pytest.mark.parametrize(
    ("machine", "told"), [(183, "is for aarch64, this is"), (40, "is for arm, this is")]
)
def test_another_architecture_is_named(
    machine: int, told: str, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\0"
    executable = damaged / "executable"
    executable.write_bytes(header.ljust(64, b"\0"))
    monkeypatch.setattr(shared_library, "EXECUTABLE", executable)
    content = bytearray((damaged / "model.so").read_bytes())
    content[18] = machine
    (damaged / "model.so").write_bytes(content)
    with pytest.raises(OutputError, match=f"{told} x86-64: compile with --target native"):
        runtime.load(damaged)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "told"),
    [
        (62, "model name : x\nflags\t: fpu avx2\n", "needs amx-int8, avx512vnni, which this"),
        (62, "flags\t: avx2 avx512_vnni amx_int8\n", None),
        (183, "Features\t: fp asimd\n", "needs dotprod, which this processor lacks"),
        (183, "flags\t: avx2\n", None),
        (62, "", None),
    ],
)
def test_instructions_that_a_processor_lacks_are_named(
    machine: int, cpuinfo: str, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + bytes((machine, 0))).ljust(64, b"\0")
    (tmp_path / "executable").write_bytes(header)
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(shared_library, "EXECUTABLE", tmp_path / "executable")
    monkeypatch.setattr(shared_library, "CPUINFO", tmp_path / "cpuinfo")
    features = ("avx512vnni", "amx-int8") if machine == 62 else ("neon", "dotprod")
    if told is None:
        shared_library.check_runs_here(tmp_path, header, features)
    else:
        with pytest.raises(OutputError, match=told):
            shared_library.check_runs_here(tmp_path, header, features)
