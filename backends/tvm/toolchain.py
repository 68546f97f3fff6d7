"""Compiling C and linking, for this machine or another.

The C compiler of the target does it; where that is not installed, the compiler of the ``ziglang``
package, which links for every target (``pip install gmpq[cross]``).
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmpq.backends.tvm.target import Target
from gmpq.errors import TargetError

OLDEST_GLIBC = "2.28"  # Debian 10, Raspberry Pi OS 10 and newer can load the library
FAST = ("-O2", "-g0")  # of linking too: zig compiles its own runtime as it is told
C = ("-std=gnu11", *FAST)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Commands for one target."""

    compiler: tuple[str, ...]
    archiver: tuple[str, ...]


def compile_object(source: Path, flags: Sequence[str], target: Target) -> Path:
    """Return the object file of one C file, beside it; it may lie in a shared library.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    made = source.with_suffix(".o")
    command = [*find_toolchain(target).compiler, *C, "-fPIC", *flags, "-c", source.name]
    _run([*command, "-o", made.name], target, made, source.parent)
    return made


def compile_program(
    source: Path, target: Target, program: Path, flags: Sequence[str] = ("-ldl",)
) -> None:
    """Write the executable ``program`` from one C file; ``flags`` end with what it is linked with.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    command = [*find_toolchain(target).compiler, *C, str(source), *flags]
    _run([*command, "-o", str(program)], target, program)


def compile_plugin(source: Path, target: Target, library: Path) -> None:
    """Write the shared ``library`` from one C file; undefined names are for its host to give.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    compile_program(source, target, library, ("-shared", "-fPIC"))


def link(words: Sequence[str], target: Target, made: Path) -> None:
    """Write what the flags and objects of ``words`` make.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot link.
    """
    _run([*find_toolchain(target).compiler, *FAST, *words, "-o", str(made)], target, made)


def archive(member: Path, target: Target, library: Path) -> None:
    """Write the static ``library`` of one object, without dates or owners.

    Raises:
        TargetError: No archiver for the target is installed, or it cannot write.
    """
    command = [*find_toolchain(target).archiver, "rcsD", str(library), str(member)]
    _run(command, target, library)


def find_toolchain(target: Target) -> Toolchain:
    """Return the commands that compile and link for the target.

    Raises:
        TargetError: No C compiler for it is installed.
    """
    archiver = "ar" if target.compiler == "cc" else f"{target.compiler.removesuffix('gcc')}ar"
    if shutil.which(target.compiler) and shutil.which(archiver):
        return Toolchain((target.compiler,), (archiver,))
    if importlib.util.find_spec("ziglang") is not None:
        zig = (sys.executable, "-m", "ziglang")
        triple = f"{target.triple}.{OLDEST_GLIBC}"
        return Toolchain((*zig, "cc", "-target", triple), (*zig, "ar"))
    raise TargetError(
        f"target {target.name}: C compiler {target.compiler!r} not found: "
        "install it, or run: pip install gmpq[cross]"
    )


def _run(command: list[str], target: Target, made: Path, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise TargetError(f"target {target.name}: {command[0]} cannot make {made.name}: {first}")
