"""Removal of nodes and values that no output depends on."""

from __future__ import annotations

from dataclasses import replace

from gmpq.ir import FloatGraph, FloatNode


def drop_dead_code(graph: FloatGraph) -> FloatGraph:
    """Return ``graph`` with only the nodes and values that its outputs need."""
    needed = set(graph.outputs)
    kept: list[FloatNode] = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    names = needed.union(graph.inputs)
    values = {name: value for name, value in graph.values.items() if name in names}
    return replace(graph, nodes=tuple(reversed(kept)), values=values)
