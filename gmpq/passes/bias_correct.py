"""Bias correction: what quantization adds to a channel's mean is taken from its bias.

Sequential and measured: layers are corrected in execution order, each on the codes that the already
corrected layers before it produce from the calibration data, so errors of earlier layers are
compensated too. Nagel et al., ICCV 2019, section 4.2 and appendix D.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.calib.statistics import Statistics
from gmpq.ir import Conv2d, FloatConv2d, FloatGraph, FloatLinear, IntGraph, Linear, Node, QWeight
from gmpq.passes.weights import BIAS_LIMIT, check_accumulator

Tensor: TypeAlias = NDArray[Any]
Means: TypeAlias = NDArray[np.float64]  # [O], of a layer before its activation


class Machine(Protocol):
    """Whatever executes single nodes on numpy arrays of any batch."""

    def compute(self, graph: IntGraph, node: Node, inputs: list[Tensor]) -> Tensor:
        """Return the output of ``node``."""

    def mean_accumulators(self, graph: IntGraph, node: Conv2d | Linear, x: Tensor) -> Means:
        """Return the mean accumulator of each output channel for codes ``x``, [O]."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What bias correction runs: a machine, and the data of the statistics."""

    machine: Machine
    batches: Iterable[NDArray[np.float32]]  # [N, C, H, W] each; all are held in memory


def layer_means(graph: FloatGraph, statistics: Mapping[str, Statistics]) -> dict[str, Means]:
    """Return the mean output of every layer of ``graph`` per channel, before its activation."""
    layers = (node for node in graph.nodes if isinstance(node, FloatConv2d | FloatLinear))
    return {node.name: statistics[node.output].means for node in layers}


def bias_correct(graph: IntGraph, means: Mapping[str, Means], correction: Correction) -> IntGraph:
    """Return ``graph`` with biases that give each layer the mean outputs of ``means``.

    Args:
        graph: with one input.
        means: of every layer in real numbers, by node name, over the same data.
        correction: the data, and what runs it.

    Raises:
        LoweringError: if a corrected layer may overflow its accumulator.
    """
    (source,) = graph.inputs
    alive: dict[str, list[Tensor]] = {source: list(correction.batches)}
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        if isinstance(node, Conv2d | Linear):
            weight = _corrected(graph, node, means[node.name], alive[node.inputs[0]], correction)
            graph, node = _exchange(graph, node, weight)
        columns = zip(*(alive[name] for name in node.inputs), strict=True)
        alive[node.output] = [correction.machine.compute(graph, node, [*c]) for c in columns]
        for name in {name for name in node.inputs if last_reader[name] == node.name}:
            del alive[name]
    return graph


def _corrected(
    graph: IntGraph, node: Conv2d | Linear, means: Means, inputs: list[Tensor], by: Correction
) -> QWeight:
    qx, weight = graph.values[node.inputs[0]].q, node.weight
    assert qx is not None, f"{node.name} must read codes"
    found = [by.machine.mean_accumulators(graph, node, x) for x in inputs]
    mean = np.average(found, axis=0, weights=[len(x) for x in inputs])
    steps = numerics.accumulator_scale(qx.scale, weight.scale).astype(np.float64)
    bias = numerics.round_half_even(weight.bias + means / steps - mean)
    bounded = np.clip(bias, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)
    corrected = replace(weight, bias=bounded)
    check_accumulator(node.name, corrected, qx)
    return corrected


def _exchange(
    graph: IntGraph, node: Conv2d | Linear, weight: QWeight
) -> tuple[IntGraph, Conv2d | Linear]:
    new = replace(node, weight=weight)
    return replace(graph, nodes=tuple(new if n is node else n for n in graph.nodes)), new
