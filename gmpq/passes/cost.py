"""What a network costs at given bits, counted exactly and without running it.

- MACs of a layer: output elements x input channels per group x kernel area.
- BOPs of a layer: MACs x w x a.
- Published BOPs: papers charge all MACs of the network at the mean w x a of all layers but the
  first and the last, weighted by their MACs. Compare with tables only so (``published_shares``).
- Weight bytes: codes as the packed file holds them (1 and 2 bits in INT2, 3 and 4 in INT4, more in
  INT8), and as one byte each. Scales and biases, 8 bytes per output channel, are not in them.
- Peak activation bytes: the largest set of tensors that live at one time in execution order, as
  one-byte codes, and as codes of exactly the bits that they are stored in. Elementwise nodes work
  in place where nothing else reads their input. The float32 input of the network, values that are
  float32 on the way to its outputs, and copies that a layer reads at fewer bits, are not in them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmpq import table
from gmpq.ir import (
    Activation,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    Reshape,
)
from gmpq.passes.fuse import Fused, fuse_clamps
from gmpq.passes.reals import real_values
from gmpq.passes.scale_groups import layer_bits, scale_groups
from gmpq.policy import LayerBits

FLOAT_BITS = 32


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer at its bits, for one input of the network's shape."""

    name: str
    kind: str  # "conv 3x3/2 g32", "linear"
    macs: int
    weights: int
    bits: LayerBits
    auxiliary: bool = False

    @property
    def bops(self) -> int:
        """MACs x weight bits x activation bits."""
        return self.macs * self.bits.w * self.bits.a

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weight codes in the narrowest container that ONNX has."""
        return math.ceil(self.weights * container_bits(self.bits.w) / 8)


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """All layers, and the peak of the tensors between them."""

    layers: tuple[LayerCost, ...]
    peak_bytes: int  # one byte per code
    peak_packed_bytes: int  # at the bits of each tensor

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bops(self) -> int:
        """BOPs of all layers at their real bits."""
        return sum(layer.bops for layer in self.layers)

    @property
    def float_bops(self) -> int:
        """BOPs of the float32 network."""
        return self.macs * FLOAT_BITS * FLOAT_BITS

    @property
    def published_bops(self) -> float:
        """All MACs at the mean ``w * a`` of the layers between the first and the last."""
        named = [layer for layer in self.layers if not layer.auxiliary]
        shares = published_shares([layer.macs for layer in named], self.macs)
        products = (layer.bits.w * layer.bits.a for layer in named)
        return sum(share * product for share, product in zip(shares, products, strict=True))

    @property
    def packed_bytes(self) -> int:
        """Bytes of all weight codes, packed."""
        return sum(layer.packed_bytes for layer in self.layers)

    @property
    def int8_bytes(self) -> int:
        """Bytes of all weight codes, one byte each."""
        return sum(layer.weights for layer in self.layers)


def published_shares(macs: Sequence[int], all_macs: int) -> list[float]:
    """Return what ``w * a`` of each layer is multiplied by in the published BOPs.

    The first and the last layer have 0.

    Args:
        macs: of the layers that a policy names, in execution order; if there are only two,
            both count.
        all_macs: of the network, auxiliary layers too.
    """
    between = range(1, len(macs) - 1) if len(macs) > 2 else range(len(macs))
    counted = sum(macs[i] for i in between)
    return [all_macs * count / counted if i in between else 0.0 for i, count in enumerate(macs)]


def container_bits(bits: int) -> int:
    """Return the bits of the ONNX integer type that holds weight codes of ``bits``."""
    return 2 if bits <= 2 else 4 if bits <= 4 else 8


def measure(
    graph: FloatGraph, bits: Mapping[str, LayerBits], output_bits: int | None = None
) -> NetworkCost:
    """Return the cost of ``graph`` whose outputs are codes of ``output_bits``, or float32.

    ``bits`` has all layers but the auxiliary ones.
    """
    costs = (_layer(graph, node, bits) for node in graph.nodes)
    fused = fuse_clamps(graph)
    widths = activation_bits(fused, bits, output_bits)
    shapes = {name: value.shape for name, value in fused.graph.values.items()}
    elements = {name: math.prod(shape) * (name in widths) for name, shape in shapes.items()}
    packed = {name: math.ceil(n * widths.get(name, 0) / 8) for name, n in elements.items()}
    return NetworkCost(
        layers=tuple(cost for cost in costs if cost is not None),
        peak_bytes=_peak(fused.graph, elements),
        peak_packed_bytes=_peak(fused.graph, packed),
    )


def layer_names(graph: FloatGraph) -> tuple[str, ...]:
    """Return the names that a policy has to cover, in execution order."""
    return tuple(
        node.name
        for node in graph.nodes
        if isinstance(node, FloatLinear) or (isinstance(node, FloatConv2d) and not node.auxiliary)
    )


def activation_bits(
    fused: Fused, bits: Mapping[str, LayerBits], output_bits: int | None = None
) -> dict[str, int]:
    """Return the bits of each value of ``fused`` that is stored in codes."""
    reals = real_values(fused, output_bits)
    return {
        value: shared.bits
        for shared in scale_groups(fused.graph, bits, reals, output_bits)
        for group in shared.groups
        for value in group
    }


def to_table(cost: NetworkCost) -> str:
    """Return the cost of every layer and of the network as text."""
    header = ("layer", "kind", "MACs", "w", "a", "BOPs", "packed B", "int8 B")
    rows = [
        (
            layer.name + (" (auxiliary)" if layer.auxiliary else ""),
            layer.kind,
            table.count(layer.macs),
            str(layer.bits.w),
            str(layer.bits.a),
            table.count(layer.bops),
            table.count(layer.packed_bytes),
            table.count(layer.weights),
        )
        for layer in cost.layers
    ]
    return table.render(header, rows) + "\n\n" + _totals(cost)


def _totals(cost: NetworkCost) -> str:
    ratio = cost.float_bops / cost.bops if cost.bops else math.inf
    rows = [
        ("MACs", table.count(cost.macs)),
        ("BOPs, all layers at their real bits", f"{cost.bops / 1e9:.3f} G"),
        ("BOPs, published convention", f"{cost.published_bops / 1e9:.3f} G"),
        ("BOPs, float32", f"{cost.float_bops / 1e9:.3f} G ({ratio:.1f} times)"),
        ("weights, packed", table.size(cost.packed_bytes)),
        ("weights, int8", table.size(cost.int8_bytes)),
        ("peak activations, one byte per code", table.size(cost.peak_bytes)),
        ("peak activations, at their bits", table.size(cost.peak_packed_bytes)),
    ]
    return table.render(("network", "cost"), rows)


def _layer(graph: FloatGraph, node: FloatNode, bits: Mapping[str, LayerBits]) -> LayerCost | None:
    match node:
        case FloatConv2d():
            rows, columns = node.weight.shape[2:]
            stride = f"/{max(node.window.stride)}" if max(node.window.stride) > 1 else ""
            groups = f" g{node.groups}" if node.groups > 1 else ""
            kind = f"conv {rows}x{columns}{stride}{groups}"
            auxiliary = node.auxiliary
        case FloatLinear():
            kind, auxiliary = "linear", False
        case _:
            return None
    outputs = math.prod(graph.values[node.output].shape)
    weights = math.prod(node.weight.shape)
    macs = outputs * weights // node.weight.shape[0]
    return LayerCost(node.name, kind, macs, weights, layer_bits(node, bits), auxiliary)


def _peak(graph: FloatGraph, sizes: Mapping[str, int]) -> int:
    buffer = _buffers(graph)
    last = {buffer[name]: len(graph.nodes) for name in graph.outputs}
    for index, node in enumerate(graph.nodes):
        for name in (*node.inputs, node.output):
            last[buffer[name]] = max(last.get(buffer[name], 0), index)
    live = {buffer[name]: sizes[name] for name in graph.inputs}
    peak = sum(live.values())
    for index, node in enumerate(graph.nodes):
        top = buffer[node.output]
        live[top] = max(live.get(top, 0), sizes[node.output])
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last[name] > index}
    return peak


def _buffers(graph: FloatGraph) -> dict[str, str]:
    buffer = {name: name for name in graph.inputs}
    for node in graph.nodes:
        source = node.inputs[0]
        in_place = isinstance(node, (Activation, Reshape)) and len(graph.consumers(source)) == 1
        buffer[node.output] = buffer[source] if in_place else node.output
    return buffer
