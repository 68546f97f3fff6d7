"""Libraries are linked for old systems, wherever they are made."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.backends.tvm.codegen import toolchain
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.emulation.instruction_counts import counted, instructions
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram
from gmpq.backends.tvm.target import find
from gmpq.errors import TargetError
from tests.support.strategies import random_graph, random_input

REASON = qemu.missing(find("arm64"))


@pytest.mark.parametrize("target", ["native", "rpi4", "armv7"])
def test_the_oldest_c_library_is_told(target: str, tmp_path: Path) -> None:
    program = build(random_graph(3), find(target), tmp_path).program
    assert [int(part) for part in str(program.glibc).split(".")] <= [2, 17]


def test_without_a_cache_for_zig_the_system_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "/dev/null/none")
    toolchain._compiled.cache_clear()
    program = build(random_graph(3), find("native"), tmp_path).program
    assert program.glibc is not None
    with pytest.raises(TargetError, match=r"^target x: .* cannot make entry.o: "):
        build(random_graph(3), replace(find("native"), name="x", compiler="none"), tmp_path)


@pytest.fixture
def odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose name separates words of linkers and emulators; temporary files too."""
    folder = tmp_path / "a,b c"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_temporary_folders_of_any_name(odd_folder: Path) -> None:
    build(random_graph(3), find("native"), odd_folder, form=Form(static=True))
    assert (odd_folder / "model.a").stat().st_size


@pytest.mark.arm
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_instructions_are_counted_in_folders_of_any_name(odd_folder: Path) -> None:
    graph, target = random_graph(3), find("arm64")
    program = EmulatedProgram(odd_folder, build(graph, target, odd_folder).program, target)
    assert instructions(counted(program, random_input(graph, 0))) > 0
