"""Operators that move data: reshapes, permutations, padding, enlargement."""

from __future__ import annotations

import math

import numpy as np

from gmpq.ir import Pad, Padding, Reshape, Upsample
from gmpq.lower.call import Call, Operand, Permuted, Shuffled


def identity(call: Call) -> Operand:
    """Lower an operator that changes nothing: clone, detach, float().

    The network stays in float32.
    """
    operand = call.arguments["input"]
    return operand if isinstance(operand, Permuted | Shuffled) else call.value("input")


def dropout(call: Call) -> Operand:
    """Lower a dropout to its input.

    In evaluation.
    """
    if call.flag("train"):
        raise call.refuse("draws random numbers in evaluation: give it training=self.training")
    return identity(call)


def reshape(call: Call) -> Operand:
    """Lower a view, flatten, squeeze or unsqueeze: whatever keeps the elements' order.

    The first axis, the batch, stays; what other operators read is [N, F] or [N, C, H, W].
    """
    operand = call.arguments["input"]
    if isinstance(operand, Permuted) and operand.axes[0] == 0 and len(call.shape) == 2:
        return _flatten(call, operand)
    source, shape = call.value("input"), call.input_shape()
    if call.shape[:1] != shape[:1]:
        raise call.refuse(f"takes {shape} to {call.shape}: the first axis, the batch, must stay")
    return call.emit(lambda name, output: Reshape(name, (source,), output))


def _flatten(call: Call, permuted: Permuted) -> Operand:
    """Return a permuted image as a vector [N, F] of its elements in memory, read in an order."""
    shape = call.builder.values[permuted.value].shape
    positions = np.arange(math.prod(shape[1:])).reshape(1, *shape[1:])
    order = positions.transpose(permuted.axes).ravel()
    return Shuffled(call.reshaped(permuted.value, call.shape), tuple(order.tolist()))


def select(call: Call) -> Operand:
    """Lower an index into an axis of one element.

    The axis has one element.
    """
    shape = call.input_shape()
    (axis,) = call.integers("dim")
    if shape[axis] != 1:
        raise call.refuse(
            f"takes one of {shape[axis]} along axis {axis}: only an axis of one can go"
        )
    return reshape(call)


def expand(call: Call) -> Operand:
    """Lower an expand that changes no size, or repeats a single row or column.

    The batch and the channels stay.
    """
    shape = call.input_shape()
    if call.shape == shape:
        return identity(call)
    if len(shape) != 4 or len(call.shape) != 4 or call.shape[:2] != shape[:2]:
        raise call.refuse(
            f"repeats {shape} to {call.shape}: only a row or column of an image can be repeated"
        )
    source = call.value("input")
    factors = (call.shape[2] // shape[2], call.shape[3] // shape[3])
    return call.emit(lambda name, output: Upsample(name, (source,), output, factors))


def permute(call: Call) -> Operand:
    """Lower a permutation of axes.

    It moves only axes of one element, is undone by a later one, or ends in a flatten before a fully
    connected layer.
    """
    rank = len(call.shape)
    return _permute(call, tuple(axis % rank for axis in call.integers("dims")))


def transpose(call: Call) -> Operand:
    """Lower a swap of two axes.

    As for a permutation.
    """
    rank = len(call.shape)
    axes = list(range(rank))
    (first,), (second,) = call.integers("dim0"), call.integers("dim1")
    axes[first], axes[second] = axes[second], axes[first]
    return _permute(call, tuple(axes))


def _permute(call: Call, axes: tuple[int, ...]) -> Operand:
    """Return the operand read in another order of axes.

    Axes of one element may go anywhere; if the others keep their order, it is a reshape.
    """
    operand = call.arguments["input"]
    if isinstance(operand, Permuted):
        source, axes = operand.value, tuple(operand.axes[axis] for axis in axes)
    else:
        source = call.value("input")
    shape = call.builder.values[source].shape
    moving = [axis for axis in axes if shape[axis] != 1]
    if axes[0] != 0 or moving != sorted(moving):
        return Permuted(source, axes)
    if axes == tuple(range(len(axes))):
        return source
    return call.emit(lambda name, output: Reshape(name, (source,), output))


def pad(call: Call) -> Operand:
    """Lower zeros around an image.

    Of rows and columns, by mode 'constant' and value 0; it cannot crop.
    """
    mode, fill = call.arguments["mode"], call.arguments["value"]
    if mode != "constant" or fill not in (None, 0):
        raise call.refuse(f"has mode={mode!r} and value={fill}: only zeros are supported")
    widths = call.integers("pad")
    shape = call.input_shape()
    (left, right), (top, bottom) = _sides(widths, 0), _sides(widths, 1)
    if len(shape) != 4 or any(widths[4:]):
        raise call.refuse(
            f"has pad={list(widths)} on shape {shape}: only rows and columns can grow"
        )
    if min(widths) < 0:
        raise call.refuse(f"has pad={list(widths)}: it cannot crop")
    source = call.value("input")
    padding = Padding(top, left, bottom, right)
    return call.emit(lambda name, output: Pad(name, (source,), output, padding))


def _sides(widths: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return the widths before and after the axis that is ``axis`` from the last."""
    sides = widths[2 * axis : 2 * axis + 2]
    return (sides[0], sides[1]) if sides else (0, 0)


def upsample(call: Call) -> Operand:
    """Lower a nearest-neighbour enlargement by whole factors.

    The factors are whole numbers.
    """
    _, _, height, width = call.image()
    rows, columns = call.shape[2:]
    scales = call.arguments["scale_factors"] or [rows / height, columns / width]
    factors = (rows // height, columns // width)
    if not isinstance(scales, list) or tuple(scales) != factors:
        raise call.refuse(f"takes {height}x{width} to {rows}x{columns}: use whole factors")
    source = call.value("input")
    return call.emit(lambda name, output: Upsample(name, (source,), output, factors))
