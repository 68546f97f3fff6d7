"""What a compiled directory holds, as later commands read it.

Every file is compared with its digest. What the digests come from, ``manifest.json``, is checked
for types, and its sizes against ``model.h`` and the graph, before a program runs by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpq.artifact.explain import Kernel
from gmpq.backends.tvm.codegen.form import HEADER
from gmpq.errors import OutputError
from gmpq.files import manifest, typed_json
from gmpq.files.untrusted import read_text
from gmpq.ir import IntGraph
from gmpq.program import Program

WORKSPACE = re.compile(r"^#define \w+_WORKSPACE_BYTES (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a compile that matter afterwards."""

    storage: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What is read of the manifest of a compiled directory."""

    target: str
    options: Options
    bops: Mapping[str, int]
    kernels: tuple[Kernel, ...]
    program: Program


@dataclass(frozen=True, slots=True)
class _Manifest:
    target: str
    options: Options
    bops: Mapping[str, int]
    kernels: tuple[Kernel, ...]
    tvm: Mapping[str, Any]


def read_contents(out: Path) -> Contents:
    """Return what the manifest of ``out`` holds, after comparing the digest of every file.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    manifest.check_files(out)
    place = out / manifest.NAME
    found = typed_json.read(place, _Manifest, OutputError)
    try:
        program = Program.from_json(found.tvm)
    except ValueError as error:
        raise OutputError(f"{place}: damaged: {error}: compile again") from error
    return Contents(found.target, found.options, found.bops, found.kernels, program)


def check_program(out: Path, program: Program, graph: IntGraph) -> None:
    """Pass a ``program`` of the directory ``out`` that computes ``graph``.

    Raises:
        OutputError: it is damaged, or of another network.
    """
    place = out / manifest.NAME
    shapes = {name: value.shape for name, value in graph.values.items()}
    for names, specs in ((graph.inputs, program.inputs), (graph.outputs, program.outputs)):
        if [(spec.name, spec.shape) for spec in specs] != [(name, shapes[name]) for name in names]:
            raise OutputError(
                f"{place}: damaged: inputs or outputs unlike those of the graph: compile again"
            )
    for value in (value for step in program.steps for value in step.stored):
        if shapes.get(value.name) != value.shape:
            raise OutputError(f"{place}: damaged: {value.name!r} has another shape: compile again")
    if WORKSPACE.findall(read_text(out / HEADER, OutputError)) != [str(program.workspace_bytes)]:
        raise OutputError(f"{place}: damaged: workspace_bytes unlike {HEADER}: compile again")
