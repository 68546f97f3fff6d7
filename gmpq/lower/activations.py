"""Unary functions of every element, and the products that spell one."""

from __future__ import annotations

import math

from gmpq.ir import (
    Activation,
    Clamp,
    Function,
    HardSwish,
    LeakyRelu,
    PRelu,
    Sigmoid,
    Silu,
    Softmax,
)
from gmpq.lower import elementwise
from gmpq.lower.call import Call, Operand, as_array


def relu(call: Call) -> Operand:
    """Lower ``max(x, 0)``."""
    return _apply(call, Clamp(0.0, math.inf))


def relu6(call: Call) -> Operand:
    """Lower ``min(max(x, 0), 6)``."""
    return _apply(call, Clamp(0.0, 6.0))


def hardtanh(call: Call) -> Operand:
    """Lower a hardtanh, which is also how ReLU6 arrives."""
    return _apply(call, Clamp(call.number("min_val"), call.number("max_val")))


def clamp(call: Call) -> Operand:
    """Lower a clamp with one or both bounds.

    The bounds are numbers, and min is not above max.
    """
    low, high = _bound(call, "min", -math.inf), _bound(call, "max", math.inf)
    if low > high:
        raise call.refuse(f"has min={low:g} above max={high:g}")
    return _apply(call, Clamp(low, high))


def clamp_min(call: Call) -> Operand:
    """Lower ``max(x, min)``."""
    return _apply(call, Clamp(call.number("min"), math.inf))


def clamp_max(call: Call) -> Operand:
    """Lower ``min(x, max)``."""
    return _apply(call, Clamp(-math.inf, call.number("max")))


def leaky_relu(call: Call) -> Operand:
    """Lower a leaky ReLU."""
    return _apply(call, LeakyRelu(call.number("negative_slope")))


def prelu(call: Call) -> Operand:
    """Lower a PReLU; a single slope is a leaky ReLU.

    The slopes are parameters.
    """
    slopes = as_array(call.constant("weight"))
    if slopes.size == 1:
        return _apply(call, LeakyRelu(float(slopes.item())))
    return _apply(call, PRelu(slopes))


def silu(call: Call) -> Operand:
    """Lower ``x * sigmoid(x)``."""
    return _apply(call, Silu())


def hardswish(call: Call) -> Operand:
    """Lower ``x * clamp(x + 3, 0, 6) / 6``."""
    return _apply(call, HardSwish())


def sigmoid(call: Call) -> Operand:
    """Lower a sigmoid."""
    return _apply(call, Sigmoid())


def multiply(call: Call) -> Operand:
    """Lower ``x * sigmoid(x)`` to SiLU, and any other product of two tensors to Multiply."""
    first, second = call.value("input"), call.value("other")
    for source, gate in ((first, second), (second, first)):
        match call.builder.producer(gate):
            case Activation(inputs=(argument,), function=Sigmoid()) if argument == source:
                return _emit(call, source, Silu())
    return elementwise.multiply(call)


def softmax(call: Call) -> Operand:
    """Lower a softmax over the channels; ``lower`` checks that nothing reads it.

    Over the channels, dim=1, as an output of the network.
    """
    source = call.value("input")
    (axis,) = call.integers("dim")
    rank = len(call.shape)
    if axis % rank != 1:
        raise call.refuse(f"has dim={axis} on {rank} axes: only the channels, dim=1, are supported")
    return call.emit(lambda name, output: Softmax(name, (source,), output))


def _apply(call: Call, function: Function) -> str:
    return _emit(call, call.value("input"), function)


def _emit(call: Call, source: str, function: Function) -> str:
    return call.emit(lambda name, output: Activation(name, (source,), output, function))


def _bound(call: Call, name: str, absent: float) -> float:
    return absent if call.arguments[name] is None else call.number(name)
