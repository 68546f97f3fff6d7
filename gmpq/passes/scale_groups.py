"""Which values must mean the same by their codes, found by union-find.

Two relations: moving data (Concat, MaxPool, Pad, Reshape, Upsample) keeps codes as they are, so
scale, zero point and bits are shared; adding needs one scale, each value with its own zero point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import assert_never

from gmpq.ir import (
    Activation,
    Add,
    AvgPool,
    Concat,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    GlobalAvgPool,
    MaxPool,
    Multiply,
    Pad,
    Reshape,
    Softmax,
    Upsample,
)
from gmpq.policy import LayerBits

STREAM_BITS = 8  # the residual stream: adding at fewer bits would clip sums


@dataclass(frozen=True, slots=True)
class SharedScale:
    """Values of one scale and width; each group inside also shares one zero point."""

    groups: tuple[tuple[str, ...], ...]
    bits: int


def scale_groups(
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    reals: Set[str] = frozenset(),
    output_bits: int | None = None,
) -> tuple[SharedScale, ...]:
    """Return the scale groups of ``graph``, with the bits that their values are stored with.

    A group in which nothing is added has the most bits that a layer reads it with; 8 if no layer
    does, or if one of its values goes through a lookup table. Read as float32, at the network's
    output, it has ``output_bits``, else 8. ``reals`` are float32 alone, and in no group.
    """
    held = [value for value in graph.values if value not in reals]
    groups = _partition(held, _moves(graph, reals))
    sums = [node for node in graph.nodes if isinstance(node, Add)]
    scales = _partition(
        held,
        [*(tuple(group) for group in groups.values()), *((*n.inputs, n.output) for n in sums)],
    )
    added = {node.output for node in sums}
    return tuple(
        SharedScale(
            groups=tuple(tuple(g) for root, g in groups.items() if root in members),
            bits=max(_demands(graph, members, bits, reals, output_bits or STREAM_BITS))
            if added.isdisjoint(members)
            else STREAM_BITS,
        )
        for members in scales.values()
    )


def layer_bits(node: FloatConv2d | FloatLinear, bits: Mapping[str, LayerBits]) -> LayerBits:
    """Return the bits of a layer; a convolution that no policy names has 8 and 8."""
    if isinstance(node, FloatConv2d) and node.auxiliary:
        return LayerBits(8, 8)
    return bits[node.name]


def _moves(graph: FloatGraph, reals: Set[str]) -> list[tuple[str, ...]]:
    kinds = (Concat, MaxPool, Pad, Reshape, Upsample)
    moving = [n for n in graph.nodes if isinstance(n, kinds) and n.output not in reals]
    return [(*node.inputs, node.output) for node in moving]


def _partition(values: Iterable[str], ties: Iterable[tuple[str, ...]]) -> dict[str, list[str]]:
    parents = {value: value for value in values}
    for first, *others in ties:
        for other in others:
            parents[_root(parents, other)] = _root(parents, first)
    members: dict[str, list[str]] = {}
    for value in parents:
        members.setdefault(_root(parents, value), []).append(value)
    return members


def _root(parents: dict[str, str], value: str) -> str:
    while parents[value] != value:
        parents[value] = parents[parents[value]]
        value = parents[value]
    return value


def _demands(
    graph: FloatGraph,
    members: list[str],
    bits: Mapping[str, LayerBits],
    reals: Set[str],
    output_bits: int,
) -> list[int]:
    """Return the bits that readers of a group ask for, at least one number."""
    readers = [node for value in members for node in graph.consumers(value)]
    asked = [output_bits if reads_float(node, reals) else _demand(node, bits) for node in readers]
    demands = [demand for demand in asked if demand is not None]
    if not set(graph.outputs).isdisjoint(members):
        demands.append(output_bits)
    return demands or [STREAM_BITS]


def reads_float(node: FloatNode, reals: Set[str]) -> bool:
    """Return whether a node that is no layer works on float32 values."""
    return node.output in reals and not isinstance(node, FloatConv2d | FloatLinear)


def _demand(node: FloatNode, bits: Mapping[str, LayerBits]) -> int | None:
    match node:
        case FloatConv2d() | FloatLinear():
            return layer_bits(node, bits).a
        case Activation() | Multiply() | Softmax():
            return STREAM_BITS
        case (
            Add()
            | Concat()
            | MaxPool()
            | AvgPool()
            | GlobalAvgPool()
            | Pad()
            | Reshape()
            | Upsample()
        ):
            return None
        case _:
            assert_never(node)
