"""Operators with weights: convolution, linear, batch norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmpq.ir import FloatConv2d, FloatLinear, Padding, Window
from gmpq.lower.affine import scale_and_shift
from gmpq.lower.call import Call, Operand, Shuffled, as_array


def conv2d(call: Call) -> Operand:
    """Lower a convolution with the same padding on both sides.

    Its input is [N, C, H, W]; weight and bias are parameters, or computed from parameters alone.
    """
    rows, columns = call.pair("padding")
    return _convolve(call, Padding(rows, columns, rows, columns))


def conv2d_named_padding(call: Call) -> Operand:
    """Lower a convolution with ``padding="same"`` or ``"valid"``.

    As for any convolution.
    """
    if call.arguments["padding"] == "valid":
        return _convolve(call, Padding())
    kernel = call.constant("weight").shape[2:]
    rows, columns = (
        dilation * (size - 1) for dilation, size in zip(call.pair("dilation"), kernel, strict=True)
    )
    # torch puts the odd row and column at the bottom and right
    return _convolve(
        call, Padding(rows // 2, columns // 2, rows - rows // 2, columns - columns // 2)
    )


def _convolve(call: Call, padding: Padding) -> str:
    call.image()
    source = call.value("input")
    weight = as_array(call.constant("weight"))
    bias = _bias(call, weight.shape[0])
    kernel = (weight.shape[2], weight.shape[3])
    window = Window(kernel, call.pair("stride"), padding, call.pair("dilation"))
    groups = int(call.number("groups"))
    return call.builder.emit(
        call.layer,
        call.shape,
        lambda name, output: FloatConv2d(name, (source,), output, weight, bias, window, groups),
    )


def linear(call: Call) -> Operand:
    """Lower a fully connected layer; its columns take the order that the input is read in.

    Its input is [N, F]; weight and bias are parameters, or computed from parameters alone.
    """
    weight = as_array(call.constant("weight"))
    operand = call.arguments["input"]
    if isinstance(operand, Shuffled):
        source = operand.value
        weight = np.ascontiguousarray(weight[:, np.argsort(operand.order)])
    else:
        source = call.value("input")
    shape = call.builder.values[source].shape
    if len(shape) != 2:
        raise call.refuse(f"needs an input [N, F], got shape {shape}: flatten it before the layer")
    bias = _bias(call, weight.shape[0])
    return call.builder.emit(
        call.layer,
        call.shape,
        lambda name, output: FloatLinear(name, (source,), output, weight, bias),
    )


def _bias(call: Call, channels: int) -> NDArray[np.float32]:
    bias = call.array("bias")
    return np.zeros(channels, np.float32) if bias is None else bias


def batch_norm(call: Call) -> Operand:
    """Lower a batch norm to the scale and shift that it is.

    In evaluation, with running statistics, of [N, F] or [N, C, H, W]; running variance + eps is
    above 0. The layer before it absorbs it, or else a depthwise 1x1 convolution of 8 bits computes
    it.
    """
    if call.arguments.get("training"):
        raise call.refuse("normalizes by the batch: keep the running statistics of the batch norm")
    shape = call.input_shape()
    if len(shape) not in (2, 4):
        raise call.refuse(f"needs an input [N, F] or [N, C, H, W], got shape {shape}")
    return scale_and_shift(call, call.value("input"), *_scale_and_shift(call))


def _scale_and_shift(call: Call) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = call.constant("running_mean").double().numpy()
    variance = call.constant("running_var").double().numpy() + call.number("eps")
    if not (variance > 0).all():
        channel = int(np.argmin(variance))
        raise call.refuse(
            f"divides by the root of running variance + eps = {variance[channel]:g} in channel "
            f"{channel}: the weights are broken"
        )
    gamma, beta = call.array("weight"), call.array("bias")
    scale = (1.0 if gamma is None else gamma.astype(np.float64)) / np.sqrt(variance)
    shift = (0.0 if beta is None else beta.astype(np.float64)) - mean * scale
    return scale, shift
