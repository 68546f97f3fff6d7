"""Which values of a network are float32 alone: those that nobody reads as codes.

conv -> y                                   y is real
conv -> a;  linear -> b;  concat(a, b) -> y   all three are real, each with its own scale
conv -> a;  relu(a) -> y                    y are codes, and a Dequantize follows them
"""

from __future__ import annotations

from gmpq.ir import Concat, FloatConv2d, FloatLinear, FloatNode, Reshape, Softmax
from gmpq.passes.fuse import Fused


def real_values(fused: Fused, output_bits: int | None) -> frozenset[str]:
    """Return the values of ``fused`` that are float32 alone.

    Without ``output_bits`` these are the values of layers, of softmax, and of what joins and
    reshapes values, if nothing but outputs and others of them is made of them; with them, of
    softmax alone.
    """
    joins = (Concat, Reshape) if output_bits is None else ()
    writers = (FloatConv2d, FloatLinear, *joins) if output_bits is None else ()
    found: set[str] = set()

    def reads_real(node: FloatNode) -> bool:
        return isinstance(node, Softmax) or (isinstance(node, joins) and node.output in found)

    for node in reversed(fused.graph.nodes):
        writes_real = isinstance(node, (*writers, Softmax)) and node.output not in fused.clips
        if writes_real and all(map(reads_real, fused.graph.consumers(node.output))):
            found.add(node.output)
    return frozenset(found)
