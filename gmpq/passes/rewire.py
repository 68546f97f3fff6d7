"""Reading one value in place of another: what every pass that removes a node needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gmpq.ir import Add, Concat, FloatGraph, FloatNode, Multiply


def redirect(graph: FloatGraph, instead: Mapping[str, str]) -> FloatGraph:
    """Return ``graph`` with every reader of a key of ``instead`` reading its value.

    Chains are followed. The nodes that write the keys stay, for ``drop_dead_code`` to find.
    """

    def target(value: str) -> str:
        while value in instead:
            value = instead[value]
        return value

    nodes = tuple(
        _reading(node, tuple(target(name) for name in node.inputs)) for node in graph.nodes
    )
    return replace(graph, nodes=nodes, outputs=tuple(target(name) for name in graph.outputs))


def _reading(node: FloatNode, inputs: tuple[str, ...]) -> FloatNode:
    match node:
        case Add() | Multiply():
            first, second = inputs
            return replace(node, inputs=(first, second))
        case Concat():
            return replace(node, inputs=inputs)
        case _:
            (source,) = inputs
            return replace(node, inputs=(source,))
