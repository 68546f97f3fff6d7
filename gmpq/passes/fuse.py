"""Clamps that vanish: the clip of a layer's output codes is its ReLU.

conv -> x -> Clamp -> y      becomes      conv -> y, with the clip of y remembered
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gmpq.ir import (
    Activation,
    Add,
    Clamp,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    Multiply,
)


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """A float graph without the clamps that its producers perform."""

    graph: FloatGraph
    clips: Mapping[str, Clamp]  # by value: the clamp that its producer performs


def fuse_clamps(graph: FloatGraph) -> Fused:
    """Return ``graph`` without each clamp that directly follows its only producer.

    The producer must be a convolution, a linear layer, an addition or a multiplication whose value
    nobody else reads. It then writes the clamp's output; the value in between is gone.
    """
    nodes: dict[str, FloatNode] = {}  # by output
    clips: dict[str, Clamp] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        source = nodes.get(node.inputs[0])
        if (
            isinstance(node, Activation)
            and isinstance(node.function, Clamp)
            and _fuses(graph, source)
        ):
            before = node.inputs[0]
            nodes[node.output] = replace(nodes.pop(before), output=node.output)
            clips[node.output] = _compose(clips.pop(before, None), node.function)
            gone.add(before)
        else:
            nodes[node.output] = node
    values = {name: value for name, value in graph.values.items() if name not in gone}
    return Fused(replace(graph, values=values, nodes=tuple(nodes.values())), clips)


def _fuses(graph: FloatGraph, source: FloatNode | None) -> bool:
    if not isinstance(source, FloatConv2d | FloatLinear | Add | Multiply):
        return False
    value = source.output
    return len(graph.consumers(value)) == 1 and value not in graph.outputs


def _compose(first: Clamp | None, second: Clamp) -> Clamp:
    if first is None:
        return second
    low, high = (min(max(bound, second.low), second.high) for bound in (first.low, first.high))
    return Clamp(low, high)
