"""Compiling a graph for a target: a shared library, its parameters, and a C header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import tvm
from tvm import transform
from tvm.tirx import transform as tirx

from gmpq.backends.tvm.codegen.elf import glibc_needed
from gmpq.backends.tvm.codegen.example import EXAMPLE, classify_program
from gmpq.backends.tvm.codegen.header import entry_macros, public_header
from gmpq.backends.tvm.codegen.library import compile_parts, write_shared, write_static
from gmpq.backends.tvm.codegen.module import emit
from gmpq.backends.tvm.kernels.base import Tensor
from gmpq.backends.tvm.plan.memory import SLACK
from gmpq.backends.tvm.plan.plan import (
    Chooser,
    Plan,
    Step,
    cheapest,
    most_stack_bytes,
    moved_bytes,
    plan,
)
from gmpq.backends.tvm.target.cpu import Target
from gmpq.files import temporary
from gmpq.ir import IntGraph
from gmpq.program import PREFIX

LIBRARY, ARCHIVE, PARAMS, HEADER = "model.so", "model.a", "params.bin", "model.h"
# TVM's default pipeline also moves and shrinks buffers by the accesses that it understands; tile
# instructions are not among them. Kernels here have no blocks and no packed calls to lower.
LOWERING = (
    tirx.FlattenBuffer(),
    tirx.NarrowDataType(32),
    tirx.VectorizeLoop(),
    tirx.UnrollLoop(),
    tirx.StmtSimplify(),
    tirx.RemoveNoOp(),
    tirx.CommonSubexprElim(),
    tirx.LowerTVMBuiltin(),
    tirx.LowerIntrin(),
)


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """A compiled network: its plan, and the description that the runtime reads."""

    plan: Plan
    program: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """What is written beside the shared library, and what it holds."""

    static: bool = False  # model.a too, and for a classifier a program in C
    embed_params: bool = False  # the libraries hold the parameters, as params.bin does
    prefix: str = PREFIX  # of the names in C


LOADED = Form()  # enough to run it here


def build(
    graph: IntGraph,
    target: Target,
    directory: Path,
    choose: Chooser = cheapest,
    *,
    fuse: bool = True,
    form: Form = LOADED,
    bound: float = inf,
    told: Callable[[str], object] = lambda _: None,
) -> Build:
    """Write ``model.so``, ``params.bin``, ``model.h``, and by ``form`` more, into ``directory``.

    The other arguments are those of ``plan``.

    Raises:
        TargetError: The target's C compiler is missing or cannot link.
    """
    planned = plan(graph, target, choose, fuse=fuse, bound=bound, told=told)
    return assemble(graph, planned, target, directory, form)


def assemble(
    graph: IntGraph, planned: Plan, target: Target, directory: Path, form: Form = LOADED
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
    program = _program(graph, planned, len(emitted.params), target, prefix)
    glibc = glibc_needed((directory / LIBRARY).read_bytes())
    return Build(planned, {**program, "glibc": glibc})


def compile_module(module: tvm.IRModule, target: Target, folder: Path) -> Path:
    """Return the object file of ``module``, whose functions are plain C functions already."""
    llvm = target.llvm()
    host = llvm.with_host(llvm)
    lowered = transform.Sequential([tirx.BindTarget(host), *LOWERING])(module)
    path = folder / "model.o"
    tvm.get_global_func("target.build.llvm")(lowered, llvm).write_to_file(str(path))
    return path


def _program(
    graph: IntGraph, planned: Plan, params_bytes: int, target: Target, prefix: str
) -> dict[str, Any]:
    """Return what the runtime must know, as JSON values."""
    return {
        "target": target.name,
        "features": sorted(target.features),
        "prefix": prefix,
        "params_bytes": params_bytes,
        "workspace_bytes": planned.memory.size_bytes + SLACK,
        "live_bytes": planned.memory.live_bytes,
        "stack_bytes": most_stack_bytes(planned),
        "moved_bytes": sum(moved_bytes(planned, step) for step in planned.steps),
        "inputs": [_end(planned.tensors[name]) for name in graph.inputs],
        "outputs": [_end(planned.tensors[name]) for name in graph.outputs],
        "steps": [
            {
                "node": step.node,
                "kernel": step.kernel,
                "outputs": [{"name": name, **_memory(planned, name)} for name in step.outputs],
                "moved_bytes": moved_bytes(planned, step),
                **_work(step),
            }
            for step in planned.steps
        ],
    }


def _end(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.value.name, "shape": list(tensor.value.shape), "dtype": "float32"}


def _work(step: Step) -> dict[str, Any]:
    """Return how much a step multiplies, and with what."""
    return {} if step.work is None else asdict(step.work)


def _memory(planned: Plan, name: str) -> dict[str, Any]:
    """Return where the codes of a value lie: offset of the first element, shape, strides."""
    tensor = planned.tensors[name]
    if tensor.layout is None:
        return {}
    layout = tensor.layout
    strides = [layout.image, 1, layout.row, layout.stored]
    return {
        "offset": planned.memory.offsets[name] + layout.origin,
        "shape": list(tensor.value.shape),
        "strides": strides[: len(tensor.value.shape)],
    }
