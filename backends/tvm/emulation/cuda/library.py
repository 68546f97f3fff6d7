"""Compiling a CUDA text for this machine's CPU, as a library in the place of ``libcuda.so.1``."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from gmpq.errors import TargetError
from gmpq.files import temporary

NAME = "libcuda.so.1"
HERE = Path(__file__).parent
SOURCES = (
    "machine.cpp",
    "instructions.cpp",
    "memory.cpp",
    "device.cpp",
    "driver.cpp",
    "streams.cpp",
    "controls.cpp",
)
COMPILER = "g++"
# Fortify takes it for a mistake that fibers are left by longjmp; unique symbols are never unloaded.
LEFT = ("-U_FORTIFY_SOURCE", "-fno-gnu-unique")
CXX = ("-std=c++17", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", *LEFT)
EXACT = ("-ffp-contract=off",)  # no product of floats is joined with a sum
# Of a kernel's accesses; machine.cpp has the messages.
CHECKED = ("-fsanitize=alignment,bounds", "-fno-sanitize-recover=all")
STATIC = ("-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL")
# Without a SONAME: the linker would take it for a real driver that is loaded by its name.
SHARED = ("-shared", *STATIC, "-Wl,-z,defs")


def missing() -> str | None:
    """Return why nothing can be emulated on this machine, in one line; None if it can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "CUDA kernels are emulated on x86-64 alone: use such a machine"
    if shutil.which(COMPILER) is None:
        return f"CUDA kernels are emulated by a C++ compiler: {COMPILER!r} not found, install it"
    return None


def emulated_driver(text: str, kernels: Mapping[str, int], folder: Path) -> Path:
    """Return the library ``folder/libcuda.so.1``: a driver whose modules hold the text's kernels.

    Args:
        text: CUDA C; helpers of instructions call ``emulated_...`` if GMPQ_EMULATED is defined.
        kernels: the number of parameters of each kernel by its name; all are pointers.
        folder: where the library and its source are written.

    Raises:
        TargetError: No C++ compiler is installed, or it cannot compile the text.
    """
    reason = missing()
    if reason:
        raise TargetError(reason)
    source, machine, library = folder / "kernels.cpp", folder / "machine.o", folder / NAME
    source.write_text(text + _table(kernels), encoding="utf-8")
    machine.write_bytes(_machine())
    emulated = ("-w", *EXACT, "-DGMPQ_EMULATED", f"-I{HERE}", "-include", "cuda_on_cpu.h", *CHECKED)
    made = folder / "kernels.o"
    _run((*CXX, *emulated, "-c", source.name, "-o", made.name), made, folder)
    # Linked apart: with -fsanitize the compiler would bring a library of other messages.
    _run((*SHARED, made.name, machine.name, "-o", library.name), library, folder)
    return library


def _table(kernels: Mapping[str, int]) -> str:
    """Return the end of a text: what cuda_on_cpu.h's ``Program`` needs."""
    rows = "".join(
        f'  row<{name}, {count}>("{name}", {name}),\n' for name, count in kernels.items()
    )
    return (
        "\nnamespace emulated {\n"
        f"static const Kernel rows[] = {{\n{rows}}};\n"
        f"const Program program = {{rows, {len(kernels)}, "
        "__start_emulated_shared, __stop_emulated_shared};\n}\n"
    )


@lru_cache(1)
def _machine() -> bytes:
    """Return the object of all that is the same for every text."""
    with temporary.folder() as folder:
        made = folder / "machine.o"
        sources = [str(HERE / name) for name in SOURCES]
        _run((*CXX, "-Wall", "-Wextra", "-r", "-nostdlib", *sources, "-o", made.name), made, folder)
        return made.read_bytes()


def _run(arguments: Sequence[str], made: Path, folder: Path) -> None:
    command = [COMPILER, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        raise TargetError(f"emulated CUDA: {COMPILER} cannot make {made.name}: {lines[0].strip()}")
