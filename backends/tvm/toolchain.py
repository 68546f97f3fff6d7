"""Linking compiled kernels and the entry points into a shared library, for this machine or another.

The C compiler of the target does it; where that is not installed, the compiler of the ``ziglang``
package, which links for every target (``pip install gmpq[cross]``).
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from gmpq.backends.tvm.target import Target
from gmpq.errors import TargetError

EXPORTS = "{ global: gmpq_run; gmpq_run_steps; gmpq_set_threads; local: *; };"
OLDEST_GLIBC = "2.28"  # Debian 10, Raspberry Pi OS 10 and newer can load the library


def link(objects: Path, header: str, target: Target, library: Path) -> None:
    """Write ``library`` from an object file and the header that describes it.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot link.
    """
    folder = objects.parent
    (folder / "gmpq_program.h").write_text(header)
    (folder / "exports.map").write_text(EXPORTS)
    entry = folder / "entry.c"
    entry.write_text(resources.files("gmpq.backends.tvm").joinpath("entry.c").read_text())
    amx = ["-DGMPQ_AMX"] if "amx-int8" in target.features else []
    command = [
        *(*_compiler(target), "-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", *amx),
        *(f"-I{folder}", f"-Wl,--version-script={folder / 'exports.map'}"),
        *(str(entry), str(objects), "-lm", "-o", str(library)),
    ]
    _run(command, target, library)


def compile_program(source: Path, target: Target, program: Path) -> None:
    """Write the executable ``program`` from one C file.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    _compile(source, target, program, "-ldl")


def compile_plugin(source: Path, target: Target, library: Path) -> None:
    """Write the shared ``library`` from one C file; undefined names are for its host to give.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    _compile(source, target, library, "-shared", "-fPIC")


def _compile(source: Path, target: Target, made: Path, *flags: str) -> None:
    command = (*_compiler(target), "-std=gnu11", "-O2", str(source), *flags, "-o", str(made))
    _run(list(command), target, made)


def _run(command: list[str], target: Target, made: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise TargetError(f"target {target.name}: {command[0]} cannot link {made.name}: {first}")


def _compiler(target: Target) -> tuple[str, ...]:
    """Return the command of a C compiler for the target."""
    if shutil.which(target.compiler):
        return (target.compiler,)
    if importlib.util.find_spec("ziglang") is not None:
        triple = f"{target.triple}.{OLDEST_GLIBC}"
        return (sys.executable, "-m", "ziglang", "cc", "-target", triple)
    raise TargetError(
        f"target {target.name}: C compiler {target.compiler!r} not found: "
        "install it, or run: pip install gmpq[cross]"
    )
