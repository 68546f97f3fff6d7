"""Removal of reshapes that undo or repeat each other."""

from __future__ import annotations

from dataclasses import replace

from gmpq.ir import FloatGraph, FloatNode, Reshape
from gmpq.passes.dead_code import drop_dead_code
from gmpq.passes.replace_uses import replace_uses


def fold_reshape(graph: FloatGraph) -> FloatGraph:
    """Return ``graph`` with one reshape for each chain, and none that changes no shape.

    Before: x [N, F] -> Reshape [N, F, 1, 1] -> Reshape [N, F] -> y. After: x -> y.
    """
    origins: dict[str, str] = {}  # what a reshaped value is a view of
    same: dict[str, str] = {}
    nodes: list[FloatNode] = []
    for node in graph.nodes:
        if isinstance(node, Reshape):
            origin = origins.get(node.inputs[0], node.inputs[0])
            origins[node.output] = origin
            if graph.values[origin].shape == graph.values[node.output].shape:
                same[node.output] = origin
            nodes.append(replace(node, inputs=(origin,)))
        else:
            nodes.append(node)
    return drop_dead_code(replace_uses(replace(graph, nodes=tuple(nodes)), same))
