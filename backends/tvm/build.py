"""Compiling a graph for a target: a shared library, its parameters, and a C header."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tvm
from tvm import transform
from tvm.tirx import transform as tirx

from gmpq.backends.tvm.emit import ENTRY, emit
from gmpq.backends.tvm.kernels.base import Tensor
from gmpq.backends.tvm.memory import SLACK
from gmpq.backends.tvm.plan import Plan, plan
from gmpq.backends.tvm.target import Target
from gmpq.errors import TargetError
from gmpq.ir import IntGraph

LIBRARY, PARAMS, HEADER = "model.so", "params.bin", "model.h"
# TVM's default pipeline also moves and shrinks buffers by the accesses that it understands, and tile
# instructions are not among them; kernels here have no blocks and no packed calls to lower.
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
EXPORTS = "{ global: gmpq_run; gmpq_run_steps; gmpq_set_threads; local: *; };"


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """A compiled network: its plan, and the description that the runtime reads."""

    plan: Plan
    program: Mapping[str, Any]


def build(graph: IntGraph, target: Target, directory: Path) -> Build:
    """Write ``model.so``, ``params.bin`` and ``model.h`` into ``directory``.

    Raises:
        TargetError: The target's C compiler is missing or cannot link.
    """
    planned = plan(graph, target)
    emitted = emit(graph, planned)
    header = _header(graph, planned, len(emitted.params))
    (directory / PARAMS).write_bytes(emitted.params)
    (directory / HEADER).write_text(header)
    with tempfile.TemporaryDirectory() as scratch:
        _link(_compile(emitted.module, target, Path(scratch)), header, target, directory / LIBRARY)
    return Build(planned, _program(graph, planned, len(emitted.params), target))


def _compile(module: tvm.IRModule, target: Target, scratch: Path) -> Path:
    """Return the object file of ``module``, whose functions are plain C functions already."""
    llvm = target.llvm()
    host = llvm.with_host(llvm)
    lowered = transform.Sequential([tirx.BindTarget(host), *LOWERING])(module)
    path = scratch / "model.o"
    tvm.get_global_func("target.build.llvm")(lowered, llvm).write_to_file(str(path))
    return path


def _link(object_file: Path, header: str, target: Target, library: Path) -> None:
    scratch = object_file.parent
    (scratch / "gmpq_program.h").write_text(header)
    (scratch / "exports.map").write_text(EXPORTS)
    source = scratch / "entry.c"
    source.write_text(resources.files("gmpq.backends.tvm").joinpath("entry.c").read_text())
    amx = ["-DGMPQ_AMX"] if "amx-int8" in target.features else []
    command = [
        *(target.linker, "-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", *amx),
        *(f"-I{scratch}", f"-Wl,--version-script={scratch / 'exports.map'}"),
        *(str(source), str(object_file), "-lm", "-o", str(library)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TargetError(
            f"target {target.name}: C compiler {target.linker!r} not found: install it"
        ) from error
    if done.returncode != 0:
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise TargetError(f"target {target.name}: {target.linker} cannot link model.so: {first}")


def _header(graph: IntGraph, planned: Plan, params_bytes: int) -> str:
    """Return the C header: entry points, sizes, and shapes as comments."""
    counts = (len(graph.inputs), len(graph.outputs))
    pointers = [
        f"({role})[{i}]" for role, n in zip(("in", "out"), counts, strict=True) for i in range(n)
    ]
    declared = ["const void *", "void *", *["const float *"] * counts[0], *["float *"] * counts[1]]
    described = [
        f" *   {role} {i}: float32 {list(planned.tensors[name].value.shape)}"
        for role, names in (("input", graph.inputs), ("output", graph.outputs))
        for i, name in enumerate(names)
    ]
    return "\n".join(
        [
            f"/* {graph.name}, compiled by gmpq.",
            *described,
            " */",
            "#ifndef GMPQ_PROGRAM_H",
            "#define GMPQ_PROGRAM_H",
            "#include <stdint.h>",
            f"#define GMPQ_PARAMS_BYTES {params_bytes}",
            f"#define GMPQ_WORKSPACE_BYTES {planned.memory.size_bytes + SLACK} /* align to 64 */",
            f"#define GMPQ_STEPS {len(planned.steps)}",
            f"#define GMPQ_INPUTS {counts[0]}",
            f"#define GMPQ_OUTPUTS {counts[1]}",
            f"int32_t {ENTRY}({', '.join(declared)}, int32_t first, int32_t last);",
            "#define GMPQ_CALL_STEPS(params, workspace, in, out, first, last) \\",
            f"  {ENTRY}(params, workspace, {', '.join(pointers)}, first, last)",
            "/* Runs the whole network; returns 0 when all is well. */",
            "int gmpq_run(const void *params, void *workspace, const float *const *inputs,",
            "             float *const *outputs);",
            "/* Runs the steps first <= i < last. */",
            "int gmpq_run_steps(const void *params, void *workspace, const float *const *inputs,",
            "                   float *const *outputs, int first, int last);",
            "/* Sets the number of threads, 1 at first; returns 0 when all is well. */",
            "int gmpq_set_threads(int threads);",
            "#endif",
            "",
        ]
    )


def _program(graph: IntGraph, planned: Plan, params_bytes: int, target: Target) -> dict[str, Any]:
    """Return what the runtime must know, as JSON values."""
    return {
        "target": target.name,
        "params_bytes": params_bytes,
        "workspace_bytes": planned.memory.size_bytes + SLACK,
        "live_bytes": planned.memory.live_bytes,
        "inputs": [_end(planned.tensors[name]) for name in graph.inputs],
        "outputs": [_end(planned.tensors[name]) for name in graph.outputs],
        "steps": [
            {
                "node": step.node,
                "kernel": step.kernel,
                "output": step.output,
                **_memory(planned, step.output),
            }
            for step in planned.steps
        ],
    }


def _end(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.value.name, "shape": list(tensor.value.shape), "dtype": "float32"}


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
