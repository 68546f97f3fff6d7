"""Programs for CPUs: a shared library, its parameters, and a C header."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tvm
from tvm import transform
from tvm.tirx import transform as tirx

from gmpq.backends.tvm.codegen.description import described
from gmpq.backends.tvm.codegen.elf import glibc_needed
from gmpq.backends.tvm.codegen.example import EXAMPLE, classify_program
from gmpq.backends.tvm.codegen.form import ARCHIVE, HEADER, LIBRARY, PARAMS, Build, Form
from gmpq.backends.tvm.codegen.header import entry_macros, public_header
from gmpq.backends.tvm.codegen.library import compile_parts, write_shared, write_static
from gmpq.backends.tvm.codegen.module import emit
from gmpq.backends.tvm.codegen.stack import most_stack_bytes
from gmpq.backends.tvm.plan.plan import Plan
from gmpq.backends.tvm.target import CpuTarget
from gmpq.files import temporary
from gmpq.ir import IntGraph

# TVM's default pipeline also moves and shrinks buffers by the accesses that it understands; tile
# instructions are not among them. Kernels here have no blocks, no packed calls to lower, and flat
# buffers alone.
LOWERING = (
    tirx.NarrowDataType(32),
    tirx.VectorizeLoop(),
    tirx.UnrollLoop(),
    tirx.StmtSimplify(),
    tirx.RemoveNoOp(),
    tirx.CommonSubexprElim(),
    tirx.LowerTVMBuiltin(),
    tirx.LowerIntrin(),
)


def assemble(
    graph: IntGraph, planned: Plan, target: CpuTarget, directory: Path, form: Form
) -> Build:
    """Write the files of a planned graph into ``directory``.

    Raises:
        TargetError: The target's C compiler is missing or cannot link.
    """
    emitted = emit(graph, planned)
    prefix, embed = form.prefix, form.embed_params
    header = public_header(graph, planned, len(emitted.params), embedded=embed, prefix=prefix)
    (directory / PARAMS).write_bytes(emitted.params)
    (directory / HEADER).write_text(header)
    with temporary.folder() as folder:
        kernels = compile_module(emitted.module, target, folder)
        held = emitted.params if embed else None
        parts = compile_parts(kernels, entry_macros(graph, planned, prefix), target, prefix, held)
        write_shared(parts, target, directory / LIBRARY)
        if form.static:
            write_static(parts, target, directory / ARCHIVE)
    example = classify_program(graph, prefix) if form.static else None
    if example is not None:
        (directory / EXAMPLE).write_text(example)
    program = replace(
        described(graph, planned, target, len(emitted.params)),
        prefix=prefix,
        features=tuple(sorted(target.features)),
        stack_bytes=most_stack_bytes(planned),
        glibc=glibc_needed((directory / LIBRARY).read_bytes()),
    )
    return Build(planned, program)


def compile_module(module: tvm.IRModule, target: CpuTarget, folder: Path) -> Path:
    """Return the object file of ``module``, whose functions are plain C functions already."""
    llvm = target.tvm()
    host = llvm.with_host(llvm)
    lowered = transform.Sequential([tirx.BindTarget(host), *LOWERING])(module)
    path = folder / "model.o"
    tvm.get_global_func("target.build.llvm")(lowered, llvm).write_to_file(str(path))
    return path
