"""Compiling a graph for a target of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from gmpq.backends.tvm.codegen import cpu, cuda
from gmpq.backends.tvm.codegen.form import LOADED, Build, Form
from gmpq.backends.tvm.plan.plan import DEFAULTS, Chooser, Plan, PlanOptions, cheapest, plan
from gmpq.backends.tvm.target import CpuTarget, GpuTarget, Target
from gmpq.ir import IntGraph


def build(
    graph: IntGraph,
    target: Target,
    directory: Path,
    choose: Chooser = cheapest,
    form: Form = LOADED,
    options: PlanOptions = DEFAULTS,
) -> Build:
    """Write ``model.so``, ``params.bin``, ``model.h``, and by ``form`` more, into ``directory``.

    ``choose`` and ``options`` are those of ``plan``.

    Raises:
        TargetError: The target's C compiler is missing or cannot link.
    """
    planned = plan(graph, target, choose, options)
    return assemble(graph, planned, target, directory, form)


def assemble(
    graph: IntGraph, planned: Plan, target: Target, directory: Path, form: Form = LOADED
) -> Build:
    """Write the files of a planned graph into ``directory``.

    Raises:
        TargetError: The target's C compiler is missing or cannot link.
    """
    match target:
        case CpuTarget():
            return cpu.assemble(graph, planned, target, directory, form)
        case GpuTarget():
            return cuda.assemble(graph, planned, target, directory, form)
        case _:
            assert_never(target)
