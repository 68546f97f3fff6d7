"""``classify.c``: a complete C program around a compiled classifier, next to ``model.h``."""

from __future__ import annotations

from importlib import resources

from gmpq.ir import IntGraph
from gmpq.program import PREFIX

EXAMPLE = "classify.c"


def classify_program(graph: IntGraph, prefix: str = PREFIX) -> str | None:
    """Return the program by the network's own names in C.

    None where the network is no classifier of one image: it has several inputs or outputs, or an
    output that is no vector of scores.
    """
    shapes = [graph.values[name].shape for name in (*graph.inputs, *graph.outputs)]
    if len(shapes) != 2 or [len(shape) for shape in shapes] != [4, 2] or shapes[1][0] != 1:
        return None
    text = resources.files("gmpq.backends.tvm.codegen").joinpath(EXAMPLE).read_text()
    return text.replace(f"{PREFIX}_", f"{prefix}_").replace(
        f"{PREFIX.upper()}_", f"{prefix.upper()}_"
    )
