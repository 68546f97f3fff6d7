"""Real numbers to codes: a float graph, bits and ranges become an integer graph.

The affine scheme of Jacob et al., CVPR 2018 (arXiv:1712.05877): ``real = scale * (code - zero)``.

    input -> conv -> x -> relu -> y -> add(y, z) -> output          (float)
    input -> Quantize -> input.codes -> Conv2d -> y -> Add -> output.codes -> Dequantize -> output

A layer without an operator after it writes its output as float32, and what joins outputs reads
float32 (``gmpq.passes.reals``). A value keeps its name, so that ``y`` in codes stands for ``y`` in
real numbers. Values of codes that are also needed as float32 have the suffix ``.codes`` for their
codes; a copy of a value at fewer bits, for a layer that reads it so, has the suffix ``.a4``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from gmpq.errors import LoweringError, PolicyError, closest
from gmpq.ir import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv2d,
    Dequantize,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    GlobalAvgPool,
    Graph,
    IntGraph,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    QParams,
    Quantize,
    QWeight,
    Requantize,
    Reshape,
    Softmax,
    Upsample,
    Value,
)
from gmpq.passes.fuse import fuse_clamps
from gmpq.passes.ranges import RangeOf, encode, encode_scale_group
from gmpq.passes.reals import real_values
from gmpq.passes.scale_groups import SharedScale, layer_bits, reads_float, scale_groups
from gmpq.passes.tables import table
from gmpq.passes.weights import WeightObserver, quantize_layer
from gmpq.policy import LayerBits

Layer: TypeAlias = FloatConv2d | FloatLinear
# for the codes of a layer's input and of its output, if those are codes
WeightsOf: TypeAlias = Callable[[Layer, QParams, QParams | None], QWeight]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A float graph and what its values mean in codes."""

    graph: FloatGraph  # without the clamps that producers perform
    bits: Mapping[str, LayerBits]  # by layer
    scale_groups: tuple[SharedScale, ...]  # of the values that are codes
    encodings: Mapping[str, QParams]  # by float value
    copies: Mapping[tuple[str, int], QParams]  # by value and the fewer bits that a layer reads
    floats: frozenset[str]  # values of codes that are needed as float32 too
    reals: frozenset[str]  # values that are float32 alone

    def read_by(self, node: Layer) -> QParams:
        """Return the parameters of the codes that a layer reads."""
        (source,), width = node.inputs, layer_bits(node, self.bits).a
        return self.copies.get((source, width), self.encodings[source])

    def codes(self, value: str) -> str:
        """Return the name of the codes of ``value``."""
        return f"{value}.codes" if value in self.floats else value

    def copy(self, value: str, bits: int) -> str:
        """Return the name of the codes of ``value`` as a layer reads them at ``bits``."""
        return f"{value}.a{bits}" if (value, bits) in self.copies else self.codes(value)


def quantize(
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    range_of: RangeOf,
    observer: WeightObserver,
    output_bits: int | None = None,
) -> IntGraph:
    """Return the integer graph of ``graph``.

    Args:
        graph: the network in real numbers.
        bits: of every layer's weight and input, by node name.
        range_of: the calibrated range of a value at a number of bits.
        observer: how weights get their scales.
        output_bits: of the codes of outputs; None leaves those of layers float32.

    Raises:
        PolicyError: if a layer has no bits.
        WeightsError: if weights are not finite.
        CalibrationError: if a range is too large.
        LoweringError: if Softmax is not at the output, or an accumulator may overflow.
    """

    def weights(node: Layer, qx: QParams, qy: QParams | None) -> QWeight:
        return quantize_layer(node, layer_bits(node, bits).w, qx, qy, observer)

    return emit(encode_network(graph, bits, range_of, output_bits), weights)


def encode_network(
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    range_of: RangeOf,
    output_bits: int | None = None,
) -> Encoded:
    """Return ``graph`` with the parameters of all its values.

    Raises:
        PolicyError: if a layer has no bits.
        CalibrationError: if a range is too large.
        LoweringError: if Softmax is not at the output.
    """
    _check_layers(graph, bits)
    fused = fuse_clamps(graph)
    reals = real_values(fused, output_bits)
    _check_softmax(graph, reals)
    found = scale_groups(fused.graph, bits, reals, output_bits)
    encodings: dict[str, QParams] = {}
    for shared in found:
        encodings |= encode_scale_group(shared, range_of, fused.clips)
    copies = {
        (value, width): encode(value, width, range_of)
        for value, width in _narrow_reads(fused.graph, bits)
        if width < encodings[value].bits
    }
    readers = [node for node in fused.graph.nodes if reads_float(node, reals)]
    floats = {*graph.inputs, *graph.outputs, *(name for node in readers for name in node.inputs)}
    return Encoded(fused.graph, bits, found, encodings, copies, frozenset(floats - reals), reals)


def emit(plan: Encoded, weights: WeightsOf) -> IntGraph:
    """Return the integer graph of ``plan`` with the codes that ``weights`` gives each layer."""
    graph, nodes = plan.graph, list[Node]()
    for name in graph.inputs:
        if any(not reads_float(node, plan.reals) for node in graph.consumers(name)):
            nodes.append(Quantize(plan.codes(name), (name,), plan.codes(name)))
            nodes.extend(_copies(plan, name))
    for node in graph.nodes:
        nodes.append(_convert(plan, node, weights))
        nodes.extend(_copies(plan, node.output))
        if node.output in plan.floats:
            value = node.output
            nodes.append(Dequantize(f"{value}.float", (plan.codes(value),), value))
    return Graph(graph.name, graph.inputs, graph.outputs, _values(plan, nodes), tuple(nodes))


def _narrow_reads(graph: FloatGraph, bits: Mapping[str, LayerBits]) -> Iterator[tuple[str, int]]:
    for node in graph.nodes:
        if isinstance(node, FloatConv2d | FloatLinear):
            yield node.inputs[0], layer_bits(node, bits).a


def _convert(plan: Encoded, node: FloatNode, weights: WeightsOf) -> Node:
    match node:
        case Concat() | Reshape() if reads_float(node, plan.reals):
            return node
        case FloatConv2d() | FloatLinear():
            return _convert_layer(plan, node, weights)
        case Activation():
            (source,), q = node.inputs, plan.encodings
            entries = table(node.function, q[source], q[node.output])
            output = plan.codes(node.output)
            return Lookup(node.name, (plan.codes(source),), output, entries, node.function)
        case Add():
            first, second = node.inputs
            return Add(node.name, (plan.codes(first), plan.codes(second)), plan.codes(node.output))
        case Multiply():
            first, second = node.inputs
            inputs = plan.codes(first), plan.codes(second)
            return Multiply(node.name, inputs, plan.codes(node.output))
        case Concat():
            return Concat(node.name, tuple(map(plan.codes, node.inputs)), plan.codes(node.output))
        case MaxPool() | AvgPool() | GlobalAvgPool() | Pad() | Reshape() | Upsample():
            source = plan.codes(node.inputs[0])
            return replace(node, inputs=(source,), output=plan.codes(node.output))
        case Softmax():
            return node
        case _:
            assert_never(node)


def _convert_layer(plan: Encoded, node: Layer, weights: WeightsOf) -> Conv2d | Linear:
    (source,), width = node.inputs, layer_bits(node, plan.bits)
    weight = weights(node, plan.read_by(node), plan.encodings.get(node.output))
    inputs, output = (plan.copy(source, width.a),), plan.codes(node.output)
    match node:
        case FloatConv2d():
            return Conv2d(node.name, inputs, output, weight, node.window, node.groups)
        case FloatLinear():
            return Linear(node.name, inputs, output, weight)
        case _:
            assert_never(node)


def _copies(plan: Encoded, value: str) -> Iterator[Node]:
    for source, bits in plan.copies:
        if source == value:
            name = plan.copy(value, bits)
            yield Requantize(name, (plan.codes(value),), name)


def _values(plan: Encoded, nodes: list[Node]) -> dict[str, Value]:
    values = plan.graph.values
    known = {plan.codes(name): replace(values[name], q=q) for name, q in plan.encodings.items()}
    known |= {plan.copy(*key): replace(values[key[0]], q=q) for key, q in plan.copies.items()}
    known |= {name: values[name] for name in plan.floats | plan.reals}
    names = (*plan.graph.inputs, *(node.output for node in nodes))
    return {name: replace(known[name], name=name) for name in names}


def _check_layers(graph: FloatGraph, bits: Mapping[str, LayerBits]) -> None:
    for node in graph.nodes:
        named = isinstance(node, FloatLinear) or (
            isinstance(node, FloatConv2d) and not node.auxiliary
        )
        if named and node.name not in bits:
            raise PolicyError(f"layer '{node.name}' has no bits{closest(node.name, bits)}")


def _check_softmax(graph: FloatGraph, reals: frozenset[str]) -> None:
    for node in graph.nodes:
        if isinstance(node, Softmax) and node.output not in reals:
            raise LoweringError(
                f"'{node.name}': softmax has a meaning in codes at the network's output only: "
                "move it there"
            )
