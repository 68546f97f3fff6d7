"""One value, with one name, for every output of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gmpq.errors import LoweringError
from gmpq.ir import FloatGraph, FloatNode, Reshape, Softmax
from gmpq.passes.replace_uses import reading, unique


def name_outputs(graph: FloatGraph, names: Sequence[str | None]) -> FloatGraph:
    """Return ``graph`` with output ``i`` called ``names[i]``, or as it is where that is None.

    Before: a convolution writes ``conv``, which is output twice, and the input ``x`` is output too.
    After: it writes ``a``, a Reshape copies ``a`` to ``b``, and another one ``x`` to ``c``.
    Other values that have an output's name get another one; the names of nodes stay.

    Raises:
        LoweringError: an output has the name of the network's input.
    """
    wanted = [name or value for name, value in zip(names, graph.outputs, strict=True)]
    for name in set(wanted).intersection(graph.inputs):
        raise LoweringError(
            f"forward: output '{name}' has the name of the network's input: rename its key"
        )
    renamed = _renamed(graph, wanted)
    nodes = [
        replace(
            reading(node, tuple(renamed[name] for name in node.inputs)),
            output=renamed[node.output],
        )
        for node in graph.nodes
    ]
    values = {new: replace(graph.values[old], name=new) for old, new in renamed.items()}
    for name, value in zip(wanted, graph.outputs, strict=True):
        source = renamed[value]
        if source != name:
            nodes.append(_copy(nodes, source, name))
            values[name] = replace(values[source], name=name)
    return replace(graph, outputs=tuple(wanted), values=values, nodes=tuple(nodes))


def _renamed(graph: FloatGraph, wanted: Sequence[str]) -> dict[str, str]:
    """Return the new name of every value; the first output that a value is names it."""
    first: dict[str, str] = {}
    for name, value in zip(wanted, graph.outputs, strict=True):
        if value not in graph.inputs:
            first.setdefault(value, name)
    taken = {*graph.values, *wanted}
    found = {}
    for value in graph.values:
        name = first.get(value, value)
        if value not in first and value in wanted:
            name = unique(value, taken)
            taken.add(name)
        found[value] = name
    return found


def _copy(nodes: Iterable[FloatNode], source: str, output: str) -> FloatNode:
    """Return a node that writes what ``source`` holds to ``output``.

    Nothing reads a softmax in codes, so it is computed again.
    """
    producer = next((node for node in nodes if node.output == source), None)
    name = unique(output, {node.name for node in nodes})
    if isinstance(producer, Softmax):
        return replace(producer, name=name, output=output)
    return Reshape(name, (source,), output)
