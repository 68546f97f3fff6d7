"""Sums and products with constants: ``scale * x + shift`` per channel, as of a batch norm."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq.ir import FloatConv2d, Window
from gmpq.lower import activations, elementwise
from gmpq.lower.call import Call, Operand

Channels: TypeAlias = NDArray[np.float64]  # [C]


def add(call: Call) -> Operand:
    """Lower ``input + alpha * other``.

    Two values have one shape; a constant has one number per channel. A constant is absorbed as a
    batch norm is.
    """
    return _combine(call, 1.0, call.number("alpha"))


def subtract(call: Call) -> Operand:
    """Lower ``input - alpha * other``.

    As for a sum.
    """
    return _combine(call, 1.0, -call.number("alpha"))


def subtract_from(call: Call) -> Operand:
    """Lower ``other - alpha * input``, as ``1 - x`` arrives.

    As for a sum.
    """
    return _combine(call, -call.number("alpha"), 1.0)


def multiply(call: Call) -> Operand:
    """Lower a product; ``activations`` knows those of two values.

    A constant has one number per channel and is absorbed as a batch norm is. Two values have one
    shape, or one of them is [N, C, 1, 1].
    """
    left, right = _constant(call, "input"), _constant(call, "other")
    if right is not None:
        return _moved(call, _same_shape(call, "input"), right, 0.0)
    if left is not None:
        return _moved(call, _same_shape(call, "other"), left, 0.0)
    return activations.multiply(call)


def divide(call: Call) -> Operand:
    """Lower a division by a constant.

    The constant has one number per channel, none of them 0.
    """
    divisor = _constant(call, "other")
    if divisor is None:
        raise call.refuse("divides by a value: only a constant can divide")
    if not divisor.all():
        raise call.refuse("divides by 0")
    return _moved(call, _same_shape(call, "input"), 1 / divisor, 0.0)


def negate(call: Call) -> Operand:
    """Lower ``-x``.

    As for a product with a constant.
    """
    return _moved(call, call.value("input"), -1.0, 0.0)


def scale_and_shift(
    call: Call, source: str, scale: Channels | float, shift: Channels | float
) -> str:
    """Return the name of the value ``scale * source + shift``, in the shape of ``source``.

    ``scale`` and ``shift`` are float64 [C], or one number for all channels. The value is computed
    by a depthwise 1x1 convolution, which ``passes.fold_batch_norm`` lets the layer before it
    absorb.

    Raises:
        LoweringError: a number is not finite in float32.
    """
    shape = call.builder.values[source].shape
    channels = shape[1]
    weight, bias = _float32(scale, channels), _float32(shift, channels)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise call.refuse("scales or shifts by a number that is not finite in float32")
    image = shape if len(shape) == 4 else (*shape[:2], math.prod(shape[2:]), 1)
    read = call.reshaped(source, image)
    kernel = weight.reshape(-1, 1, 1, 1)
    moved = call.emit(
        lambda name, output: FloatConv2d(
            name, (read,), output, kernel, bias, Window((1, 1)), channels, auxiliary=True
        ),
        image,
    )
    return call.reshaped(moved, shape)


def _moved(call: Call, source: str, scale: Channels | float, shift: Channels | float) -> str:
    """Return ``scale * source + shift``, or ``source`` where that changes nothing."""
    if np.all(scale == 1) and np.all(shift == 0):
        return source
    return scale_and_shift(call, source, scale, shift)


def _float32(numbers: Channels | float, channels: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # an infinity is refused by name
        return np.broadcast_to(np.asarray(numbers).astype(np.float32), (channels,)).copy()


def _combine(call: Call, first: float, second: float) -> Operand:
    """Lower ``first * input + second * other``."""
    left, right = _constant(call, "input"), _constant(call, "other")
    if right is not None:
        return _moved(call, _same_shape(call, "input"), first, second * right)
    if left is not None:
        return _moved(call, _same_shape(call, "other"), second, first * left)
    summands = {
        "input": _moved(call, call.value("input"), first, 0.0),
        "other": _moved(call, call.value("other"), second, 0.0),
    }
    return elementwise.add(replace(call, arguments=summands))


def _same_shape(call: Call, name: str) -> str:
    """Return the value given as argument ``name``, which the constant must not enlarge.

    Raises:
        LoweringError: the output has another shape.
    """
    shape = call.input_shape(name)
    if shape != call.shape:
        raise call.refuse(f"with a constant enlarges {shape} to {call.shape}: keep the shape")
    return call.value(name)


def _constant(call: Call, name: str) -> Channels | None:
    """Return the constant given as argument ``name`` by channel; None if a value is given.

    Raises:
        LoweringError: the constant differs within a channel.
    """
    match call.arguments[name]:
        case int() | float() as number:
            return np.full(_channels(call), float(number))
        case torch.Tensor() as tensor if not tensor.is_complex():
            return _by_channel(call, tensor.detach().double())
        case _:
            return None


def _by_channel(call: Call, tensor: torch.Tensor) -> Channels:
    channels = _channels(call)
    full = tensor.expand(call.shape).reshape(call.shape[0], channels, -1)
    found = full[:1, :, :1]
    if not torch.equal(full, found.expand_as(full)) and bool(full.isfinite().all()):
        raise call.refuse("has a constant that differs within a channel: only one number for each")
    return np.array(found.flatten().numpy())


def _channels(call: Call) -> int:
    if len(call.shape) < 2:
        raise call.refuse(f"has an output of shape {call.shape}: [N, C, ...] is needed")
    return call.shape[1]
