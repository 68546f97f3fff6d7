"""The shared and the static library of a network: its kernels, its entry points, its parameters.

Both show the entry points alone. The objects of the static library are linked into one, whose other
symbols are made local; so it can be linked into any program, with ``-lm -pthread``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gmpq.backends.tvm.codegen.elf import keep_global
from gmpq.backends.tvm.codegen.header import FUNCTIONS, PARAMS_FUNCTION
from gmpq.backends.tvm.codegen.toolchain import archive, compile_object, link
from gmpq.backends.tvm.target.cpu import CpuTarget

EXPORTS = "exports.map"


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects of a library, in a folder of their own, and the functions that it shows."""

    folder: Path
    objects: tuple[Path, ...]
    entries: tuple[str, ...]


def compile_parts(
    kernels: Path, header: str, target: CpuTarget, prefix: str, params: bytes | None
) -> Parts:
    """Return the kernels with their entry points, and with ``params`` inside where given.

    ``header`` is what the entry points include; ``prefix`` begins their names.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    folder = kernels.parent
    (folder / "gmpq_program.h").write_text(header)
    amx = ("-DGMPQ_AMX",) if "amx-int8" in target.features else ()
    entry = compile_object(_source("entry.c", folder), ("-pthread", *amx), target)
    entries = tuple(f"{prefix}_{function}" for function in FUNCTIONS)
    if params is None:
        return Parts(folder, (kernels, entry), entries)
    (folder / "params.bin").write_bytes(params)
    held = compile_object(_source("params.c", folder), (), target)
    return Parts(folder, (kernels, entry, held), (*entries, f"{prefix}_{PARAMS_FUNCTION}"))


def write_shared(parts: Parts, target: CpuTarget, library: Path) -> None:
    """Write ``library`` for programs that load it; raises ``TargetError``."""
    exports = parts.folder / EXPORTS
    exports.write_text(f"{{ global: {'; '.join(parts.entries)}; local: *; }};")
    # Without a folder: a comma in it would end the linker's word.
    script = f"-Wl,--version-script={EXPORTS}"
    flags = ("-shared", "-pthread", "-Wl,-z,defs", "-Wl,--strip-debug", script)
    link((*flags, *map(str, parts.objects), "-lm"), target, library, parts.folder)


def write_static(parts: Parts, target: CpuTarget, library: Path) -> None:
    """Write ``library`` for programs that are linked with it; raises ``TargetError``."""
    whole = parts.folder / "whole.o"
    link(("-r", "-nostdlib", *map(str, parts.objects)), target, whole, parts.folder)
    member = parts.folder / f"{library.stem}.o"
    member.write_bytes(keep_global(whole.read_bytes(), parts.entries))
    archive(member, target, library)


def _source(name: str, folder: Path) -> Path:
    """Return a C file of this package in ``folder``."""
    path = folder / name
    path.write_text(resources.files("gmpq.backends.tvm.codegen").joinpath(name).read_text())
    return path
