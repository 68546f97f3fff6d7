"""Pooling and means over space."""

from __future__ import annotations

import math

import numpy as np

from gmpq.ir import NO_PADDING, AvgPool, GlobalAvgPool, MaxPool, Padding, Window
from gmpq.lower.call import Call, Operand

LARGEST_CODE = 255


def max_pool2d(call: Call) -> Operand:
    """Lower max pooling."""
    source, window = call.value("input"), _window(call, call.pair("dilation"))
    return call.emit(lambda name, output: MaxPool(name, (source,), output, window))


def avg_pool2d(call: Call) -> Operand:
    """Lower average pooling; a window over the whole image is a global one.

    Without divisor_override.
    """
    if call.arguments["divisor_override"] is not None:
        divisor = call.arguments["divisor_override"]
        raise call.refuse(f"has divisor_override={divisor}: leave it out")
    _, _, height, width = call.image()
    source, window = call.value("input"), _window(call, (1, 1))
    _check_sum(call, window.kernel)
    if window.kernel == (height, width) and window.padding == NO_PADDING:
        return call.emit(lambda name, output: GlobalAvgPool(name, (source,), output))
    rows, columns = call.pair("padding")
    counted = (
        Padding(rows, columns, rows, columns) if call.flag("count_include_pad") else NO_PADDING
    )
    return call.emit(lambda name, output: AvgPool(name, (source,), output, window, counted))


def adaptive_avg_pool2d(call: Call) -> Operand:
    """Lower adaptive average pooling to sizes that divide the image.

    Rows and columns of the output divide those of the input.
    """
    _, _, height, width = call.image()
    source, (rows, columns) = call.value("input"), call.pair("output_size")
    if (rows, columns) == (height, width):
        return source
    _check_sum(call, (height // rows, width // columns))
    if (rows, columns) == (1, 1):
        return call.emit(lambda name, output: GlobalAvgPool(name, (source,), output))
    if height % rows or width % columns:
        raise call.refuse(
            f"takes {height}x{width} to {rows}x{columns}: the output size must divide the input's"
        )
    kernel = (height // rows, width // columns)
    window = Window(kernel, kernel)
    return call.emit(lambda name, output: AvgPool(name, (source,), output, window, NO_PADDING))


def mean(call: Call) -> Operand:
    """Lower a mean over all axes behind the channels.

    Over all of space, with keepdim or without.
    """
    shape = call.input_shape()
    axes = sorted(axis % len(shape) for axis in call.integers("dim"))
    if len(shape) < 3 or axes != list(range(2, len(shape))):
        raise call.refuse(
            f"is over axes {axes} of shape {shape}: only a mean over all of space is supported"
        )
    image = shape if len(shape) == 4 else (*shape[:2], math.prod(shape[2:]), 1)
    _check_sum(call, image[2:])
    source = call.reshaped(call.value("input"), image)
    pooled = call.emit(
        lambda name, output: GlobalAvgPool(name, (source,), output), (*shape[:2], 1, 1)
    )
    return call.reshaped(pooled, call.shape)


def _check_sum(call: Call, kernel: tuple[int, ...]) -> None:
    if math.prod(kernel) * LARGEST_CODE > np.iinfo(np.int32).max:
        sides = "x".join(map(str, kernel))
        raise call.refuse(f"sums {sides} codes, beyond int32: pool in two steps")


def _window(call: Call, dilation: tuple[int, int]) -> Window:
    _, _, height, width = call.image()
    kernel = call.pair("kernel_size")
    stride = call.pair("stride") if call.arguments["stride"] else kernel
    rows, columns = call.pair("padding")
    window = Window(kernel, stride, Padding(rows, columns, rows, columns), dilation)
    if not call.flag("ceil_mode"):
        return window
    bottom = _ceil_padding(height, rows, window.reach[0], stride[0])
    right = _ceil_padding(width, columns, window.reach[1], stride[1])
    return Window(kernel, stride, Padding(rows, columns, bottom, right), dilation)


def _ceil_padding(size: int, padding: int, reach: int, stride: int) -> int:
    """Return the padding at the end of an axis that makes ceil mode's number of windows."""
    windows = -(-(size + 2 * padding - reach) // stride) + 1
    if (windows - 1) * stride >= size + padding:
        windows -= 1  # torch drops a window that would start in the padding at the end
    return max(padding, (windows - 1) * stride + reach - size - padding)
