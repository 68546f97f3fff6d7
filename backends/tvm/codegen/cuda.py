"""Programs for NVIDIA GPUs: a library of cubins and launches, its parameters, header, and text.

``kernels.cu`` is the CUDA C that the cubins are of: emulation compiles it for the CPU. ``model.c``
is the C source of the library: it is compiled again where a program for a host of another
architecture is emulated.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gmpq.backends.tvm.codegen.cuda_compiler import cubin
from gmpq.backends.tvm.codegen.cuda_header import FUNCTIONS, public_header
from gmpq.backends.tvm.codegen.cuda_source import emit
from gmpq.backends.tvm.codegen.cuda_table import entry_source
from gmpq.backends.tvm.codegen.description import described
from gmpq.backends.tvm.codegen.elf import glibc_needed
from gmpq.backends.tvm.codegen.form import ENTRY, HEADER, KERNELS, LIBRARY, PARAMS, Build, Form
from gmpq.backends.tvm.codegen.library import Parts, write_shared
from gmpq.backends.tvm.codegen.toolchain import compile_object
from gmpq.backends.tvm.plan.plan import Plan
from gmpq.backends.tvm.target import CpuTarget, GpuTarget
from gmpq.backends.tvm.target.gpu import host_of
from gmpq.files import temporary
from gmpq.ir import IntGraph


def assemble(
    graph: IntGraph, planned: Plan, target: GpuTarget, directory: Path, form: Form
) -> Build:
    """Write the files of a planned graph into ``directory``.

    Raises:
        TargetError: No compiler of CUDA C is installed, or no C compiler for the host.
    """
    found = emit(graph, planned, target)
    (directory / PARAMS).write_bytes(found.params)
    (directory / KERNELS).write_text(found.text)
    header = public_header(graph, found.table, (target.arch,), form.prefix)
    (directory / HEADER).write_text(header)
    with temporary.folder() as folder:
        image = f"{target.arch}.cubin"
        (folder / image).write_bytes(cubin(found.text, target.arch))
        source = entry_source(found.table, {target.capability: image}, form.prefix)
        (directory / ENTRY).write_text(source)
        write_library(source, host_of(target), folder, directory / LIBRARY, form.prefix)
    program = replace(
        described(graph, planned, target, len(found.params)),
        prefix=form.prefix,
        glibc=glibc_needed((directory / LIBRARY).read_bytes()),
    )
    return Build(planned, program)


def write_library(
    source: str,
    host: CpuTarget,
    folder: Path,
    library: Path,
    prefix: str,
    flags: tuple[str, ...] = (),
) -> None:
    """Write ``library`` of the C source of an entry; ``folder`` has the cubins that it includes.

    Raises:
        TargetError: No C compiler for the host is installed.
    """
    (folder / ENTRY).write_text(source)
    made = compile_object(folder / ENTRY, ("-fvisibility=hidden", *flags), host)
    entries = tuple(f"{prefix}_{function}" for function in FUNCTIONS)
    write_shared(Parts(folder, (made,), entries), host, library)
