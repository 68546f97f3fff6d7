"""The C header of a compiled network, and what its entry points need to know beyond it.

A prefix begins the names of all functions and, in upper case, of all macros, so that several
networks fit into one program: ``lite0_run``, ``LITE0_STEPS``.
"""

from __future__ import annotations

from math import prod

from gmpq.backends.tvm.codegen.module import ENTRY
from gmpq.backends.tvm.codegen.stack import most_stack_bytes, thread_stack_bytes
from gmpq.backends.tvm.plan.plan import Plan
from gmpq.errors import OutputError
from gmpq.ir import IntGraph
from gmpq.program import IDENTIFIER, PREFIX

FUNCTIONS, PARAMS_FUNCTION = ("run", "run_steps", "set_threads"), "params"  # after the prefix

PUBLIC = """\
/* {name}, compiled by gmpq.
{shapes}
 */
#ifndef {upper}_MODEL_H
#define {upper}_MODEL_H

#define {upper}_PARAMS_BYTES {params_bytes} /* of params.bin; align its memory to 64 */
#define {upper}_WORKSPACE_BYTES {workspace_bytes} /* align to 64 */
#define {upper}_STACK_BYTES {stack_bytes} /* on the stack of each thread */
#define {upper}_STEPS {steps}
#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
{elements}

#ifdef __cplusplus
extern "C" {{
#endif

/* Runs the network; returns 0 when all is well. Several threads may do so at once, each with
 * a separate workspace and separate outputs; they may share the parameters. */
int {prefix}_run(const void *params, void *workspace, const float *const *inputs,
{indent}float *const *outputs);

/* Runs only the steps first <= i < last, one step per layer, as several threads may too. */
int {prefix}_run_steps(const void *params, void *workspace, const float *const *inputs,
{indent}      float *const *outputs, int first, int last);

/* Sets the number of threads, 1 at first and in a forked child; returns 0 when all is well. They
 * serve one caller at a time, and the others run alone. It may be called at any time. */
int {prefix}_set_threads(int threads);
{embedded}
#ifdef __cplusplus
}}
#endif
#endif
"""

EMBEDDED = """
/* Returns the parameters, which the library holds: params.bin is not needed. */
#define {upper}_PARAMS_EMBEDDED 1
const void *{prefix}_params(void);
"""


def check_prefix(prefix: str) -> None:
    """Pass what can begin the name of a C function.

    Raises:
        OutputError: ``prefix`` cannot.
    """
    if not IDENTIFIER.fullmatch(prefix):
        raise OutputError(
            f"--name {prefix!r}: C functions cannot begin so: "
            "give a letter, then letters, digits and _"
        )


def public_header(
    graph: IntGraph, plan: Plan, params_bytes: int, *, embedded: bool, prefix: str = PREFIX
) -> str:
    """Return ``model.h``: entry points, sizes, and the shapes of inputs and outputs."""
    upper = prefix.upper()
    shapes, elements = described_ends(graph, upper)
    return PUBLIC.format(
        name=graph.name,
        prefix=prefix,
        upper=upper,
        indent=" " * len(f"int {prefix}_run("),
        shapes=shapes,
        elements=elements,
        inputs=len(graph.inputs),
        outputs=len(graph.outputs),
        params_bytes=params_bytes,
        workspace_bytes=plan.memory.workspace_bytes,
        stack_bytes=most_stack_bytes(plan),
        steps=len(plan.steps),
        embedded=EMBEDDED.format(prefix=prefix, upper=upper) if embedded else "",
    )


def described_ends(graph: IntGraph, upper: str) -> tuple[str, str]:
    """Return the lines of a header about inputs and outputs: their shapes, and their elements."""
    io = [
        (role, i, graph.values[name].shape)
        for role, names in (("input", graph.inputs), ("output", graph.outputs))
        for i, name in enumerate(names)
    ]
    shapes = [f" *   {role}s[{i}]: float32 {list(shape)}" for role, i, shape in io]
    elements = [
        f"#define {upper}_{role.upper()}_{i}_ELEMENTS {prod(shape)}" for role, i, shape in io
    ]
    return "\n".join(shapes), "\n".join(elements)


def entry_macros(graph: IntGraph, plan: Plan, prefix: str = PREFIX) -> tuple[str, ...]:
    """Return the flags of the C compiler that say what ``entry.c`` names and calls."""
    inputs, outputs = len(graph.inputs), len(graph.outputs)
    io = ["const float *"] * inputs + ["float *"] * outputs
    parameters = ["const void *params", "void *workspace", *io, "int32_t first", "int32_t last"]
    places = [f"inputs[{i}]" for i in range(inputs)] + [f"outputs[{i}]" for i in range(outputs)]
    arguments = ["params", "workspace", *places, "first", "last"]
    values = {
        "THREAD_STACK_BYTES": thread_stack_bytes(plan),
        "STEPS_FUNCTION": ENTRY,
        "PARAMETERS": ", ".join(parameters),
        "ARGUMENTS": ", ".join(arguments),
    }
    return (entry_macro(prefix), *(f"-DGMPQ_{name}={value}" for name, value in values.items()))


def entry_macro(prefix: str) -> str:
    """Return the flag of the C compiler that puts ``prefix`` before the names of functions."""
    return f"-DENTRY(name)={prefix}_##name"
