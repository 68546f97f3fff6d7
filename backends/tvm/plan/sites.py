"""From a graph to sites: its nodes with the tensors around them, fused ones with their layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from gmpq.backends.tvm.kernels.base import Addition, Site, Tensor
from gmpq.backends.tvm.kernels.layout import channels_last, layouts
from gmpq.backends.tvm.plan.fusion import Fusion
from gmpq.backends.tvm.target import AnyTarget, LayoutRules
from gmpq.ir import Conv2d, IntGraph, Linear, Node, Value

T = TypeVar("T", bound=AnyTarget)


def tensors_of(graph: IntGraph, rules: LayoutRules) -> dict[str, Tensor]:
    """Return all values, and for each float32 output of a layer what the layer itself leaves."""
    placed = layouts(graph, rules)
    tensors = {name: Tensor(value, placed.get(name)) for name, value in graph.values.items()}
    for value in _real_outputs(graph):
        name = _sums_of(value.name)
        layout = channels_last(value.shape, rules.vector)
        tensors[name] = Tensor(Value(name, value.shape), layout)
    return tensors


def _sums_of(name: str) -> str:
    """Return the name of the tensor in which a layer leaves a float32 value, channels last."""
    return f"{name}:sums"


def sites_of(
    graph: IntGraph, tensors: Mapping[str, Tensor], fused: Mapping[str, Fusion], target: T
) -> list[Site[T]]:
    """Return a site per node that no other node's kernel computes, in the graph's order."""
    taken = {node.name for fusion in fused.values() for node in fusion.nodes}
    weights = weights_bytes(graph)
    return [
        _site(node, tensors, fused.get(node.name), target, weights)
        for node in graph.nodes
        if node.name not in taken
    ]


def weights_bytes(graph: IntGraph) -> int:
    """Return the weights of all layers, which a run reads once, at a byte each."""
    layers = (node for node in graph.nodes if isinstance(node, Conv2d | Linear))
    return sum(layer.weight.codes.size for layer in layers)


def _real_outputs(graph: IntGraph) -> list[Value]:
    """Return the float32 values that layers write."""
    layers = [node for node in graph.nodes if isinstance(node, Conv2d | Linear)]
    written = [graph.values[node.output] for node in layers]
    return [value for value in written if value.q is None]


def _site(
    node: Node,
    tensors: Mapping[str, Tensor],
    fusion: Fusion | None,
    target: T,
    weights: int,
) -> Site[T]:
    inputs, output = tuple(tensors[name] for name in node.inputs), tensors[node.output]
    if isinstance(node, Conv2d | Linear) and output.value.q is None:
        output = tensors[_sums_of(output.value.name)]
    site = Site(node, inputs, output, target, weights_bytes=weights)
    if fusion is None:
        return site
    addition = None
    if fusion.addition is not None:
        (term,) = (name for name in fusion.addition.inputs if name != node.output)
        addition = Addition(tensors[term], tensors[fusion.addition.output])
    copies = tuple(tensors[copy.output] for copy in fusion.copies)
    return replace(site, addition=addition, copies=copies, stores_result=fusion.stores_result)
