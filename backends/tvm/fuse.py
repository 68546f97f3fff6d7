"""Which additions are computed by the kernel of the convolution before them.

    conv -> c;  add(c, r) -> y        becomes        conv with residual r -> y

if nothing else reads c, and r is there before the convolution runs.
"""

from __future__ import annotations

from gmpq.ir import Add, Conv2d, IntGraph


def fused_additions(graph: IntGraph) -> dict[str, Add]:
    """Return the addition that each convolution takes over, by the convolution's name."""
    order = {node.output: i for i, node in enumerate(graph.nodes)}
    found = {}
    for node in graph.nodes:
        if isinstance(node, Add) and order[node.inputs[0]] != order[node.inputs[1]]:
            last = graph.producer(max(node.inputs, key=order.__getitem__))
            if isinstance(last, Conv2d) and last.groups == 1 and _private(graph, last.output):
                found[last.name] = node
    return found


def _private(graph: IntGraph, value: str) -> bool:
    return len(graph.consumers(value)) == 1 and value not in graph.outputs
