"""Whether a trained integer graph is the one that a policy and a network mean."""

from __future__ import annotations

from collections.abc import Mapping

from gmpq import spec
from gmpq.errors import PolicyError, closest
from gmpq.ir import Conv2d, FloatConv2d, FloatGraph, IntGraph, Linear
from gmpq.passes.fuse import fuse_clamps
from gmpq.passes.quantize import Layer
from gmpq.passes.reals import real_values
from gmpq.passes.scale_groups import layer_bits
from gmpq.policy import LayerBits

PLACE = "model.quantized"


def check_trained(
    quantized: IntGraph,
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    output_bits: int | None = None,
) -> None:
    """Pass an integer graph with the layers, bits and shapes of ``graph`` at ``bits``.

    Its outputs are codes, or float32, as the policy has it with these ``output_bits``.

    Raises:
        PolicyError: it is of another network or other bits, or breaks a rule of ``gmpq.spec``.
    """
    try:
        spec.check(quantized)
    except AssertionError as error:
        raise PolicyError(f"{PLACE}: not a legal graph: {error}: finetune again") from error
    _check_interface(quantized, graph)
    found = {n.name: n for n in quantized.nodes if isinstance(n, Conv2d | Linear)}
    layers = {n.name: n for n in graph.nodes if isinstance(n, Layer)}
    for name in found:
        if name not in layers:
            raise PolicyError(
                f"{PLACE}: layer '{name}' is not in the network{closest(name, layers)}"
            )
    for name, layer in layers.items():
        if name not in found:
            raise PolicyError(f"{PLACE}: layer '{name}' of the network is missing: finetune again")
        _check_layer(found[name], layer, quantized, bits)
    fused = fuse_clamps(graph)
    reals = real_values(fused, output_bits)
    for node in fused.graph.nodes:
        if isinstance(node, Layer):
            _check_output(found[node.name], quantized, real=node.output in reals)


def _check_interface(quantized: IntGraph, graph: FloatGraph) -> None:
    for kind, names, needed in (
        ("inputs", quantized.inputs, graph.inputs),
        ("outputs", quantized.outputs, graph.outputs),
    ):
        held = {name: list(quantized.values[name].shape) for name in names}
        wanted = {name: list(graph.values[name].shape) for name in needed}
        if held != wanted:
            raise PolicyError(
                f"{PLACE}: has the {kind} {held}, the network {wanted}: finetune again"
            )


def _check_output(found: Conv2d | Linear, quantized: IntGraph, *, real: bool) -> None:
    held = quantized.values[found.output].q is None
    if held != real:
        kinds = {True: "float32", False: "codes"}
        cure = 'add "output": {"bits": 8} to the policy' if real else 'take "output" out of it'
        raise PolicyError(
            f"{PLACE}: layer '{found.name}' writes {kinds[held]}, by the policy {kinds[real]}: "
            f"finetune again, or {cure}"
        )


def _check_layer(
    found: Conv2d | Linear, layer: Layer, quantized: IntGraph, bits: Mapping[str, LayerBits]
) -> None:
    needed, q = layer_bits(layer, bits), quantized.values[found.inputs[0]].q
    assert q is not None, f"{found.name} reads codes"
    if found.weight.codes.shape != layer.weight.shape:
        raise PolicyError(
            f"{PLACE}: layer '{layer.name}' has a weight {list(found.weight.codes.shape)}, "
            f"the network {list(layer.weight.shape)}: finetune again"
        )
    kinds = isinstance(found, Conv2d), isinstance(layer, FloatConv2d)
    assert kinds[0] == kinds[1], f"{layer.name}: weights of one shape are of one kind"
    if found.weight.bits != needed.w or q.bits > needed.a:
        raise PolicyError(
            f"{PLACE}: layer '{layer.name}' has w={found.weight.bits}, a={q.bits}, "
            f"the policy says w={needed.w}, a={needed.a}: finetune again"
        )
