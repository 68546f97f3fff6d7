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

from gmpq import program as description
from gmpq.artifact.explain import Kernel
from gmpq.backends.tvm.codegen.build import HEADER
from gmpq.errors import OutputError
from gmpq.files import manifest, typed_json
from gmpq.files.untrusted import read_text
from gmpq.ir import IntGraph

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
    tvm: Mapping[str, Any]  # what ``gmpq.runtime`` needs to know


def read_contents(out: Path) -> Contents:
    """Return what the manifest of ``out`` holds, after comparing the digest of every file.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    manifest.check_files(out)
    return typed_json.read(out / manifest.NAME, Contents, OutputError)


def check_program(out: Path, program: Mapping[str, Any], graph: IntGraph) -> None:
    """Pass a description of the program in ``out`` that computes ``graph``.

    Raises:
        OutputError: it is damaged, or of another network.
    """
    place = out / manifest.NAME
    try:
        found = description.parse(program)
    except ValueError as error:
        raise OutputError(f"{place}: damaged: {error}: compile again") from error
    shapes = {name: value.shape for name, value in graph.values.items()}
    for names, ends in ((graph.inputs, found.inputs), (graph.outputs, found.outputs)):
        if [(end.name, end.shape) for end in ends] != [(name, shapes[name]) for name in names]:
            raise OutputError(f"{place}: damaged: ends unlike those of the graph: compile again")
    for codes in found.codes:
        for name, code in codes.items():
            if shapes.get(name) != code["shape"]:
                raise OutputError(f"{place}: damaged: {name!r} has another shape: compile again")
    if WORKSPACE.findall(read_text(out / HEADER, OutputError)) != [str(found.workspace_bytes)]:
        raise OutputError(f"{place}: damaged: workspace_bytes unlike {HEADER}: compile again")
