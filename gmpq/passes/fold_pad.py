"""Zeros around an image become the padding of the window that reads it."""

from __future__ import annotations

from dataclasses import replace

from gmpq.ir import AvgPool, FloatConv2d, FloatGraph, FloatNode, Pad, Padding
from gmpq.passes.dead_code import drop_dead_code


def fold_pad(graph: FloatGraph) -> FloatGraph:
    """Return ``graph`` with every Pad merged into the Pads, convolutions and means that read it.

    Before: x -> Pad(0, 0, 1, 1) -> Conv(padding 0). After: x -> Conv(padding 0, 0, 1, 1).
    A max pool keeps its Pad, since zeros around an image can win and a window's padding cannot.
    """
    pads: dict[str, Pad] = {}
    nodes: list[FloatNode] = []
    for node in graph.nodes:
        folded = _fold(node, pads.get(node.inputs[0]))
        if isinstance(folded, Pad):
            pads[folded.output] = folded
        nodes.append(folded)
    return drop_dead_code(replace(graph, nodes=tuple(nodes)))


def _fold(node: FloatNode, pad: Pad | None) -> FloatNode:
    if pad is None:
        return node
    match node:
        case FloatConv2d(window=window):
            wider = replace(window, padding=_sum(window.padding, pad.padding))
            return replace(node, inputs=pad.inputs, window=wider)
        case AvgPool(window=window):
            wider = replace(window, padding=_sum(window.padding, pad.padding))
            counted = _sum(node.counted, pad.padding)
            return replace(node, inputs=pad.inputs, window=wider, counted=counted)
        case Pad():
            return replace(node, inputs=pad.inputs, padding=_sum(node.padding, pad.padding))
        case _:
            return node


def _sum(first: Padding, second: Padding) -> Padding:
    return Padding(*(a + b for a, b in zip(first, second, strict=True)))
