"""Operators that join values: sums and concatenations."""

from __future__ import annotations

from gmpq.ir import Add, Concat
from gmpq.lower.call import Call, Operand


def add(call: Call) -> Operand:
    """Lower the sum of two values of one shape."""
    first, second = call.value("input"), call.value("other")
    shapes = call.input_shape(), call.input_shape("other")
    if shapes[0] != shapes[1]:
        raise call.refuse(f"joins shapes {shapes[0]} and {shapes[1]}: they must be equal")
    return call.emit(lambda name, output: Add(name, (first, second), output))


def concat(call: Call) -> Operand:
    """Lower a concatenation along the channels."""
    tensors = call.arguments["tensors"]
    assert isinstance(tensors, list)
    sources = tuple(call.as_value(tensor) for tensor in tensors)
    (axis,) = call.integers("dim")
    if axis % len(call.shape) != 1:
        raise call.refuse(f"is along axis {axis}: only the channels, dim=1, are supported")
    if len(sources) == 1:
        return sources[0]
    return call.emit(lambda name, output: Concat(name, sources, output))
