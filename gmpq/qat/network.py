"""A network in training that computes, in real numbers, what its integer graph will compute.

It runs the float graph node by node. Every value that the integer graph holds as codes is
fake-quantized with the encoding that ``gmpq.passes.quantize`` gave it, whose scale is learned;
zero points, bits and clips stay. ``gmpq.qat.emit`` reads the integer graph off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias, assert_never

import torch
from torch import nn

from gmpq.backends.torch_float import compute
from gmpq.errors import TrainingError
from gmpq.ir import (
    Activation,
    Add,
    AvgPool,
    Concat,
    FloatConv2d,
    FloatLinear,
    FloatNode,
    GlobalAvgPool,
    MaxPool,
    Multiply,
    Pad,
    QParams,
    Reshape,
    Softmax,
    Upsample,
)
from gmpq.passes.quantize import Encoded
from gmpq.passes.ranges import LARGEST_SCALE, SMALLEST_SCALE
from gmpq.passes.scale_groups import layer_bits
from gmpq.qat.layers import LoneNorm, QuantizedLayer
from gmpq.qat.scales import ActivationScale, MakeScale
from gmpq.training.scores import scores_of

Part: TypeAlias = QuantizedLayer | LoneNorm


class QatNetwork(nn.Module):
    """Runs a float graph with fake-quantized weights and activations.

    ``parts`` are the layers and the batch norms that no layer could absorb, by node name.
    """

    def __init__(self, plan: Encoded, parts: Mapping[str, Part], make_scale: MakeScale) -> None:
        """Make the network of ``plan``, whose scales start where its encodings are.

        Args:
            plan: the graph and its encodings, as post-training quantization chooses them.
            parts: one for every convolution and linear layer of the graph.
            make_scale: how the scales of activations train.
        """
        super().__init__()
        self.plan = plan
        self.parts = nn.ModuleList(parts.values())
        self._part_of = {name: index for index, name in enumerate(parts)}
        self.scales = nn.ModuleList()
        self._scale_of: dict[str, int] = {}
        self._copy_scale_of: dict[tuple[str, int], int] = {}
        for shared in plan.scale_groups:
            members = [value for group in shared.groups for value in group]
            self._scale_of |= dict.fromkeys(members, len(self.scales))
            self._add_scale(plan.encodings[members[0]], make_scale)
        for key, q in plan.copies.items():
            self._copy_scale_of[key] = len(self.scales)
            self._add_scale(q, make_scale)

    def _add_scale(self, q: QParams, make_scale: MakeScale) -> None:
        self.scales.append(make_scale(q.scale, q.maximum))

    def layers(self) -> list[FloatConv2d | FloatLinear]:
        """Return the layers of the graph in execution order."""
        nodes = self.plan.graph.nodes
        return [node for node in nodes if isinstance(node, FloatConv2d | FloatLinear)]

    def part(self, node: FloatConv2d | FloatLinear) -> Part:
        """Return what trains in the place of ``node``."""
        found = self.parts[self._part_of[node.name]]
        assert isinstance(found, QuantizedLayer | LoneNorm)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class scores for images [N, C, H, W]; logits, if they are a softmax."""
        first = scores_of(self.plan.graph)
        producer = self.plan.graph.producer(first)
        if isinstance(producer, Softmax):
            first = producer.inputs[0]
        return next(value for name, value in self.values(x) if name == first)

    def values(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every value for images ``x`` [N, C, H, W], fake-quantized, in execution order.

        A copy at fewer bits is named as in the integer graph.
        """
        graph = self.plan.graph
        last = {name: node.output for node in graph.nodes for name in node.inputs}
        alive: dict[str, torch.Tensor] = {}
        (source,) = graph.inputs
        for name, value in self._written(source, self._encode(source, x)):
            alive[name] = value
            yield name, value
        for node in graph.nodes:
            real = self._run(node, [alive[self._read(node, name)] for name in node.inputs])
            held = real if _keeps_codes(node) else self._encode(node.output, real)
            for name, value in self._written(node.output, held):
                alive[name] = value
                yield name, value
            for name in set(node.inputs):
                if last[name] == node.output:
                    self._forget(name, alive)

    def encoding(self, value: str) -> QParams:
        """Return the parameters of the codes of ``value`` as they have been learned."""
        return self._learned(self.plan.encodings[value], self._scale_of[value], value)

    def learned(self) -> Encoded:
        """Return the plan with the scales that have been learned.

        Raises:
            TrainingError: a scale has become too large, or is no number.
        """
        copies = {
            key: self._learned(q, self._copy_scale_of[key], key[0])
            for key, q in self.plan.copies.items()
        }
        encodings = {value: self.encoding(value) for value in self.plan.encodings}
        return replace(self.plan, encodings=encodings, copies=copies)

    def _learned(self, q: QParams, index: int, value: str) -> QParams:
        scale = float(self._scale(index).scale())
        if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
            raise TrainingError(f"value '{value}': its scale became {scale:g}: lower --lr")
        return replace(q, scale=scale)

    def _scale(self, index: int) -> ActivationScale:
        found = self.scales[index]
        assert isinstance(found, ActivationScale)
        return found

    def _encode(self, value: str, real: torch.Tensor) -> torch.Tensor:
        if value not in self._scale_of:
            return real
        encoded: torch.Tensor = self._scale(self._scale_of[value])(real, self.plan.encodings[value])
        return encoded

    def _written(self, value: str, held: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        yield value, held
        for key, q in self.plan.copies.items():
            if key[0] == value:
                yield self.plan.copy(*key), self._scale(self._copy_scale_of[key])(held, q)

    def _read(self, node: FloatNode, value: str) -> str:
        if isinstance(node, FloatConv2d | FloatLinear):
            width = layer_bits(node, self.plan.bits).a
            if (value, width) in self.plan.copies:
                return self.plan.copy(value, width)
        return value

    def _scale_read_by(self, node: FloatConv2d | FloatLinear) -> torch.Tensor:
        key = node.inputs[0], layer_bits(node, self.plan.bits).a
        return self._scale(self._copy_scale_of.get(key, self._scale_of[key[0]])).scale()

    def _forget(self, value: str, alive: dict[str, torch.Tensor]) -> None:
        del alive[value]
        for key in self.plan.copies:
            if key[0] == value:
                del alive[self.plan.copy(*key)]

    def _run(self, node: FloatNode, inputs: list[torch.Tensor]) -> torch.Tensor:
        if isinstance(node, FloatConv2d | FloatLinear):
            found: torch.Tensor = self.part(node)(inputs[0], self._scale_read_by(node))
            return found
        return compute(node, inputs, self.plan.graph.values[node.output].shape)


def _keeps_codes(node: FloatNode) -> bool:
    """Return whether a node's output needs no encoding: its codes are its inputs', or floats."""
    match node:
        case Concat() | MaxPool() | Pad() | Reshape() | Upsample() | Softmax():
            return True
        case FloatConv2d() | FloatLinear() | Activation() | Add() | Multiply():
            return False
        case AvgPool() | GlobalAvgPool():
            return False
        case _:
            assert_never(node)
