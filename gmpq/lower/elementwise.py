"""Operators that join values: sums, products and concatenations."""

from __future__ import annotations

from gmpq.ir import Add, Concat, Multiply, Upsample
from gmpq.lower.call import Call, Operand


def add(call: Call) -> Operand:
    """Lower the sum of two values of one shape."""
    first, second = call.value("input"), call.value("other")
    shapes = call.input_shape(), call.input_shape("other")
    if shapes[0] != shapes[1]:
        raise call.refuse(f"joins shapes {shapes[0]} and {shapes[1]}: they must be equal")
    return call.emit(lambda name, output: Add(name, (first, second), output))


def multiply(call: Call) -> Operand:
    """Lower the product of two tensors of one shape, or of an image and [N, C, 1, 1] gates."""
    first, second = call.value("input"), call.value("other")
    shapes = call.input_shape(), call.input_shape("other")
    gates = (*call.shape[:2], 1, 1)
    gated = len(call.shape) == 4 and set(shapes) == {call.shape, gates}
    if not (gated or shapes[0] == shapes[1]):
        raise call.refuse(
            f"of shapes {shapes[0]} and {shapes[1]} is not supported: "
            "they must be equal, or one of them [N, C, 1, 1]"
        )
    inputs = _pixel(call, first), _pixel(call, second)
    sizes = [call.builder.values[name].shape for name in inputs]
    if call.shape not in sizes:  # gates twice, both repeated
        inputs = first, second
    return call.emit(lambda name, output: Multiply(name, inputs, output))


def _pixel(call: Call, value: str) -> str:
    """Return the single pixel that ``value`` repeats over an image, else ``value``."""
    match call.builder.producer(value):
        case Upsample(inputs=(source,)) if call.builder.values[source].shape[2:] == (1, 1):
            return source
        case _:
            return value


def concat(call: Call) -> Operand:
    """Lower a concatenation along the channels.

    Along dim=1, of values only.
    """
    tensors = call.arguments["tensors"]
    assert isinstance(tensors, list)
    sources = tuple(call.as_value(tensor) for tensor in tensors)
    (axis,) = call.integers("dim")
    if axis % len(call.shape) != 1:
        raise call.refuse(f"is along axis {axis}: only the channels, dim=1, are supported")
    if len(sources) == 1:
        return sources[0]
    return call.emit(lambda name, output: Concat(name, sources, output))
