"""The C header of a network for NVIDIA GPUs."""

from __future__ import annotations

from gmpq.backends.tvm.codegen.header import described_ends
from gmpq.backends.tvm.codegen.launches import LaunchTable
from gmpq.ir import IntGraph

FUNCTIONS = (  # after the prefix; those behind "error" compare values, and are not in the header
    *("open", "run", "run_on", "run_steps", "time", "close", "error"),
    *("open_driver", "write_inputs", "read_outputs", "read_workspace", "fill"),
)

PUBLIC = """\
/* {name}, compiled by gmpq for NVIDIA GPUs of {architectures}.
{shapes}
 *
 * It needs the driver's libcuda.so.1 alone. All functions but {prefix}_close and {prefix}_error
 * return 0 when all is well. Several networks may be open, on several devices; one thread at a
 * time may use a network.
 */
#ifndef {upper}_MODEL_H
#define {upper}_MODEL_H

#include <stdint.h>

#define {upper}_PARAMS_BYTES {params_bytes} /* of params.bin */
#define {upper}_WORKSPACE_BYTES {workspace_bytes} /* on the device, as the parameters */
#define {upper}_STEPS {steps}
#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
{elements}

#ifdef __cplusplus
extern "C" {{
#endif

typedef struct Network {prefix}_network;

/* Opens the network on a device; params, the content of params.bin, may be freed then. */
int {prefix}_open({prefix}_network **network, int device, const void *params);

/* Runs the network on arrays in host memory. */
int {prefix}_run({prefix}_network *network, const float *const *inputs, float *const *outputs);

/* Starts the network on arrays in device memory, in the order of a stream (a CUstream), and does
 * not wait for it. Its context must be that of the device, which is the primary one. All runs of
 * a network share its workspace: wait for the stream before the next one. */
int {prefix}_run_on({prefix}_network *network, void *stream, const uint64_t *inputs,
{indent}const uint64_t *outputs);

/* Runs only the steps first <= i < last, one step per layer, on what the last run has left. */
int {prefix}_run_steps({prefix}_network *network, int first, int last);

/* Runs these steps, and measures their time on the device: of all of them, as one graph. */
int {prefix}_time({prefix}_network *network, int first, int last, float *milliseconds);

/* Frees the network; NULL is allowed. */
void {prefix}_close({prefix}_network *network);

/* Returns what the last failure in this thread was. */
const char *{prefix}_error(void);

#ifdef __cplusplus
}}
#endif
#endif
"""


def public_header(
    graph: IntGraph, table: LaunchTable, architectures: tuple[str, ...], prefix: str
) -> str:
    """Return ``model.h``: entry points, sizes, and the shapes of inputs and outputs."""
    upper = prefix.upper()
    shapes, elements = described_ends(graph, upper)
    return PUBLIC.format(
        name=graph.name,
        architectures=", ".join(architectures),
        prefix=prefix,
        upper=upper,
        indent=" " * len(f"int {prefix}_run_on("),
        shapes=shapes,
        elements=elements,
        inputs=len(graph.inputs),
        outputs=len(graph.outputs),
        params_bytes=table.params_bytes,
        workspace_bytes=table.workspace_bytes,
        steps=len(table.steps),
    )
