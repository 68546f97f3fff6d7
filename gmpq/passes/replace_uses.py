"""Reading one value in place of another, and new names: what passes that rewrite a graph need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gmpq.ir import Add, Concat, FloatGraph, FloatNode, Multiply


def replace_uses(graph: FloatGraph, instead: Mapping[str, str]) -> FloatGraph:
    """Return ``graph`` with every reader of a key of ``instead`` reading its value.

    Chains are followed. The nodes that write the keys stay, for ``drop_dead_code`` to find.
    """

    def target(value: str) -> str:
        while value in instead:
            value = instead[value]
        return value

    nodes = tuple(
        reading(node, tuple(target(name) for name in node.inputs)) for node in graph.nodes
    )
    return replace(graph, nodes=nodes, outputs=tuple(target(name) for name in graph.outputs))


def reading(node: FloatNode, inputs: tuple[str, ...]) -> FloatNode:
    """Return ``node`` with other ``inputs`` of the same number."""
    match node:
        case Add() | Multiply():
            first, second = inputs
            return replace(node, inputs=(first, second))
        case Concat():
            return replace(node, inputs=inputs)
        case _:
            (source,) = inputs
            return replace(node, inputs=(source,))


def unique(name: str, taken: Iterable[str]) -> str:
    """Return ``name``, or ``name:2`` and so on, so that it is not ``taken``."""
    names = set(taken)
    count, candidate = 1, name
    while candidate in names:
        count += 1
        candidate = f"{name}:{count}"
    return candidate
