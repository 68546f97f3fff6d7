"""The shared and the static library of a network: its kernels, its entry points, its parameters.

Both show the entry points alone. The objects of the static library are linked into one, whose other
symbols are made local; so it can be linked into any program, with ``-lm -pthread``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmpq.backends.tvm.codegen.elf import keep_global
from gmpq.backends.tvm.codegen.header import FUNCTIONS, PARAMS_FUNCTION, entry_macro
from gmpq.backends.tvm.codegen.toolchain import archive, compile_object, link, remembered_object
from gmpq.backends.tvm.target.cpu import CpuTarget

EXPORTS = "exports.map"
ENTRY_SOURCE = Path(__file__).with_name("entry.c")
PARAMS_SOURCE = Path(__file__).with_name("params.c")


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects of a library, in a separate folder, and the functions that it exports."""

    folder: Path
    objects: tuple[Path, ...]
    entries: tuple[str, ...]


def compile_parts(
    kernels: Path, macros: Sequence[str], target: CpuTarget, prefix: str, params: bytes | None
) -> Parts:
    """Return the kernels with their entry points, and with ``params`` inside where given.

    ``macros`` are what ``entry_macros`` returns; ``prefix`` begins the names of the entry points.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    folder = kernels.parent
    amx = ("-DGMPQ_AMX",) if "amx-int8" in target.features else ()
    entry = folder / "entry.o"
    entry.write_bytes(remembered_object(ENTRY_SOURCE, ("-pthread", *amx, *macros), target))
    entries = tuple(f"{prefix}_{function}" for function in FUNCTIONS)
    if params is None:
        return Parts(folder, (kernels, entry), entries)
    held = compile_params(params, prefix, target, folder)
    return Parts(folder, (kernels, entry, held), (*entries, f"{prefix}_{PARAMS_FUNCTION}"))


def compile_params(params: bytes, prefix: str, target: CpuTarget, folder: Path) -> Path:
    """Return the object that holds ``params``, in ``folder``.

    Raises:
        TargetError: No C compiler for the target is installed, or it cannot compile.
    """
    source = folder / PARAMS_SOURCE.name
    source.write_bytes(PARAMS_SOURCE.read_bytes())
    (folder / "params.bin").write_bytes(params)
    # Caches of compilers do not see what the assembler includes: the flags identify it.
    content = f"-DGMPQ_PARAMS_SHA256={hashlib.sha256(params).hexdigest()}"
    return compile_object(source, (entry_macro(prefix), content), target)


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
