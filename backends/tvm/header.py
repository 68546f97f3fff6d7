"""The C header of a compiled network, and what its entry points need to know beyond it."""

from __future__ import annotations

from math import prod

from gmpq.backends.tvm.emit import ENTRY
from gmpq.backends.tvm.memory import SLACK
from gmpq.backends.tvm.plan import Plan, most_stack_bytes
from gmpq.ir import IntGraph

PUBLIC = """\
/* {name}, compiled by gmpq.
{shapes}
 */
#ifndef GMPQ_MODEL_H
#define GMPQ_MODEL_H

#define GMPQ_PARAMS_BYTES {params_bytes} /* of params.bin; align its memory to 64 */
#define GMPQ_WORKSPACE_BYTES {workspace_bytes} /* align to 64 */
#define GMPQ_STACK_BYTES {stack_bytes} /* on the stack of each thread, beside some KiB of calls */
#define GMPQ_STEPS {steps}
#define GMPQ_INPUTS {inputs}
#define GMPQ_OUTPUTS {outputs}
{elements}

#ifdef __cplusplus
extern "C" {{
#endif

/* Runs the network; returns 0 when all is well. One thread at a time may call these functions. */
int gmpq_run(const void *params, void *workspace, const float *const *inputs,
             float *const *outputs);

/* Runs only the steps first <= i < last, one step per layer. */
int gmpq_run_steps(const void *params, void *workspace, const float *const *inputs,
                   float *const *outputs, int first, int last);

/* Sets the number of threads, 1 at first; returns 0 when all is well. */
int gmpq_set_threads(int threads);
{embedded}
#ifdef __cplusplus
}}
#endif
#endif
"""

EMBEDDED = """
/* Returns the parameters, which the library holds: params.bin is not needed. */
#define GMPQ_PARAMS_EMBEDDED 1
const void *gmpq_params(void);
"""

PRIVATE = """\
#include <stdint.h>
int32_t {entry}({parameters});
#define GMPQ_CALL_STEPS(params, workspace, in, out, first, last) \\
  {entry}({arguments})
"""


def public_header(graph: IntGraph, plan: Plan, params_bytes: int, *, embedded: bool) -> str:
    """Return ``model.h``: entry points, sizes, and the shapes of inputs and outputs."""
    ends = [
        (role, i, graph.values[name].shape)
        for role, names in (("input", graph.inputs), ("output", graph.outputs))
        for i, name in enumerate(names)
    ]
    return PUBLIC.format(
        name=graph.name,
        shapes="\n".join(f" *   {role}s[{i}]: float32 {list(shape)}" for role, i, shape in ends),
        elements="\n".join(
            f"#define GMPQ_{role.upper()}_{i}_ELEMENTS {prod(shape)}" for role, i, shape in ends
        ),
        inputs=len(graph.inputs),
        outputs=len(graph.outputs),
        params_bytes=params_bytes,
        workspace_bytes=plan.memory.size_bytes + SLACK,
        stack_bytes=most_stack_bytes(plan),
        steps=len(plan.steps),
        embedded=EMBEDDED if embedded else "",
    )


def private_header(graph: IntGraph) -> str:
    """Return how ``entry.c`` calls the compiled steps."""
    inputs, outputs = len(graph.inputs), len(graph.outputs)
    ends = ["const float *"] * inputs + ["float *"] * outputs
    parameters = ["const void *params", "void *workspace", *ends, "int32_t first", "int32_t last"]
    places = [f"(in)[{i}]" for i in range(inputs)] + [f"(out)[{i}]" for i in range(outputs)]
    arguments = ["params", "workspace", *places, "first", "last"]
    return PRIVATE.format(
        entry=ENTRY, parameters=", ".join(parameters), arguments=", ".join(arguments)
    )
