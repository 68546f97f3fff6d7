"""Compiling C and linking, for this machine or another.

Libraries that are shipped are linked by the compiler of the ``ziglang`` package where it is
installed (the extra ``cross``): it links for every target, and against an old C library, so
that old systems can load what a new one compiles. Otherwise, and for programs that run here, the C
compiler of the target does it, against the C library that this system has for it.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.errors import TargetError, install_extra
from gmpq.files import temporary

OLDEST_GLIBC = "2.17"  # the oldest that zig links against: CentOS 7, Debian 8
FAST = ("-O2", "-g0")  # of linking too: zig compiles its runtime with these
C = ("-std=gnu11", *FAST)
REMEMBERED = 256  # objects of some ten kilobytes


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Commands for one target."""

    compiler: tuple[str, ...]
    archiver: tuple[str, ...]


def compile_object(source: Path, flags: Sequence[str], target: CpuTarget) -> Path:
    """Return the object file of one C file, in its folder; it may lie in a shared library.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    made = source.with_suffix(".o")
    arguments = (*C, "-fPIC", *flags, "-c", source.name, "-o", made.name)
    commands = [[*found.compiler, *arguments] for found in _shipping(target)]
    _run(commands, target, made, source.parent)
    return made


def remembered_object(source: Path, flags: Sequence[str], target: CpuTarget) -> bytes:
    """Return the object of a C file that never changes; it is compiled once for flags and target.

    The compiler gets the file's full path, by which zig finds what earlier processes compiled.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    return _compiled(source.absolute(), tuple(flags), target, tuple(_shipping(target)))


@lru_cache(REMEMBERED)
def _compiled(
    source: Path, flags: tuple[str, ...], target: CpuTarget, toolchains: tuple[Toolchain, ...]
) -> bytes:
    with temporary.folder() as folder:
        made = folder / f"{source.stem}.o"
        arguments = (*C, "-fPIC", *flags, "-c", str(source), "-o", made.name)
        _run([[*found.compiler, *arguments] for found in toolchains], target, made, folder)
        return made.read_bytes()


def compile_program(
    source: Path, target: CpuTarget, program: Path, flags: Sequence[str] = ("-ldl",)
) -> None:
    """Write the executable ``program`` from one C file; ``flags`` end with what it is linked with.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    command = [*find_toolchain(target).compiler, *C, str(source), *flags]
    _run([[*command, "-o", str(program)]], target, program)


def compile_plugin(source: Path, target: CpuTarget, library: Path) -> None:
    """Write the shared ``library`` from one C file; undefined names are for its host to give.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    compile_program(source, target, library, ("-shared", "-fPIC"))


def link(arguments: Sequence[str], target: CpuTarget, made: Path, folder: Path) -> None:
    """Write what the flags and objects of ``arguments`` make; the linker runs in ``folder``.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot link.
    """
    commands = [
        [*found.compiler, *FAST, *arguments, "-o", str(made.absolute())]
        for found in _shipping(target)
    ]
    _run(commands, target, made, folder)


def archive(member: Path, target: CpuTarget, library: Path) -> None:
    """Write the static ``library`` of one object, without dates or owners.

    Raises:
        TargetError: No archiver for the target is installed, or it cannot write.
    """
    arguments = ("rcsD", str(library), str(member))
    _run([[*found.archiver, *arguments] for found in _shipping(target)], target, library)


def find_toolchain(target: CpuTarget) -> Toolchain:
    """Return the commands that compile and link programs for the target.

    Raises:
        TargetError: No C compiler for it is installed.
    """
    return _one_of(target, (_system(target), _zig(target)))[0]


def _shipping(target: CpuTarget) -> list[Toolchain]:
    """Return what makes libraries that are shipped, the one for the most systems first."""
    return _one_of(target, (_zig(target), _system(target)))


def _one_of(target: CpuTarget, toolchains: Sequence[Toolchain | None]) -> list[Toolchain]:
    found = [each for each in toolchains if each is not None]
    if not found:
        raise TargetError(
            f"target {target.name}: C compiler {target.compiler!r} not found: "
            f"install it, or {install_extra('cross')}"
        )
    return found


def _system(target: CpuTarget) -> Toolchain | None:
    archiver = "ar" if target.compiler == "cc" else f"{target.compiler.removesuffix('gcc')}ar"
    here = shutil.which(target.compiler) and shutil.which(archiver)
    return Toolchain((target.compiler,), (archiver,)) if here else None


def _zig(target: CpuTarget) -> Toolchain | None:
    package = importlib.util.find_spec("ziglang")
    if package is None or package.origin is None:
        return None
    zig = shutil.which("zig", path=str(Path(package.origin).parent))
    if zig is None:
        return None
    return Toolchain((zig, "cc", "-target", f"{target.triple}.{OLDEST_GLIBC}"), (zig, "ar"))


def _run(
    commands: Sequence[list[str]], target: CpuTarget, made: Path, folder: Path | None = None
) -> None:
    """Run the first of ``commands`` that succeeds; zig does not where it has no cache to write."""
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    first = (done.stderr.strip().splitlines() or ["no message"])[0]
    raise TargetError(f"target {target.name}: {command[0]} cannot make {made.name}: {first}")
