"""Symbols made local: the object still links and runs, and two of a kind fit into one program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gmpq.backends.tvm.codegen import toolchain
from gmpq.backends.tvm.codegen.elf import glibc_needed, keep_global
from gmpq.backends.tvm.codegen.toolchain import OLDEST_GLIBC, compile_object, link
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.target import find
from tests.support.elf import global_symbols

PART = """
extern int base(void);
int table[4] = {1, 2, 3, 4};
int *chosen = &table[2];
static int hidden(int x) { return x * *chosen; }
int shared(int x) { return hidden(x) + table[0] + base(); }
int NAME(int x) { return shared(x) + SHIFT; }
"""
MAIN = """
int first(int x), second(int x);
int base(void) { return 100; }
int main(void) { return first(10) == 131 && second(20) == 163 ? 0 : 1; }
"""


def part(folder: Path, name: str, shift: int, target: str) -> bytes:
    (folder / f"{name}.c").write_text(PART)
    flags = (f"-DNAME={name}", f"-DSHIFT={shift}")
    return compile_object(folder / f"{name}.c", flags, find(target)).read_bytes()


def symbols_of(data: bytes, folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    (folder / "looked-at.o").write_bytes(data)
    return global_symbols(folder / "looked-at.o")


@pytest.mark.parametrize("target", ["native", "arm64", "armv7"])
def test_only_kept_symbols_stay_global(target: str, tmp_path: Path) -> None:
    found = part(tmp_path, "first", 0, target)
    defined, needed = symbols_of(found, tmp_path)
    assert defined == {"table", "chosen", "shared", "first"}
    assert "base" in needed
    assert symbols_of(keep_global(found, {"first"}), tmp_path) == ({"first"}, needed)
    assert keep_global(found, defined) == keep_global(keep_global(found, defined), defined)


@pytest.mark.parametrize("target", ["native", "arm64", "armv7"])
def test_equal_names_do_not_clash(target: str, tmp_path: Path) -> None:
    objects = []
    for name, shift in (("first", 0), ("second", 2)):
        kept = keep_global(part(tmp_path, name, shift, target), {name})
        (tmp_path / f"{name}-kept.o").write_bytes(kept)
        objects.append(str(tmp_path / f"{name}-kept.o"))
    (tmp_path / "main.c").write_text(MAIN)
    main = compile_object(tmp_path / "main.c", (), find(target))
    link((str(main), *objects), find(target), tmp_path / "main", tmp_path)
    program = [str(tmp_path / "main")]
    if target != "native":
        if (reason := qemu.missing(find(target))) is not None:
            pytest.skip(reason)
        program = qemu.command(find(target), tmp_path / "main")
    assert subprocess.run(program, check=False).returncode == 0


NEEDY = "void *threads(void); int pthread_create(); void *threads(void) { return pthread_create; }"


def shared(folder: Path, source: str, target: str) -> str | None:
    (folder / "made.c").write_text(source)
    compiled = compile_object(folder / "made.c", ("-w",), find(target))
    flags = ("-shared", "-pthread", str(compiled))
    link(flags, find(target), folder / "made.so", folder)
    return glibc_needed((folder / "made.so").read_bytes())


@pytest.mark.parametrize("target", ["native", "arm64", "armv7"])
def test_libraries_that_zig_links_run_on_old_systems(target: str, tmp_path: Path) -> None:
    found = shared(tmp_path, NEEDY, target)
    assert found is not None
    assert tuple(map(int, found.split("."))) <= tuple(map(int, OLDEST_GLIBC.split(".")))


def test_the_newest_version_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "OLDEST_GLIBC", "2.35")
    assert shared(tmp_path, NEEDY, "native") == "2.34"  # when libpthread became part of libc


def test_a_library_that_needs_nothing(tmp_path: Path) -> None:
    assert shared(tmp_path, "int one(void); int one(void) { return 1; }", "arm64") is None
