"""Every rounding that gmpq performs, each written once.

Requantization is ``y = clip(round_half_even(float32(acc) * m) + z_y, low, high)`` with the float32
multiplier ``m = float32(float32(s_x * s_w) / s_y)``: what onnxruntime's QLinearConv computes on x86
and on aarch64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = np.float32  # onnxruntime rescales in float32; a wider type would differ at ties

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Accumulators = NDArray[np.int32]


def as_float32(value: float) -> float:
    """Return ``value`` rounded to the nearest float32, as a Python float."""
    return float(F32(value))


def round_half_even(values: NDArray[Any]) -> NDArray[Any]:
    """Return ``values``, of any shape, rounded to integers, ties to even, in their own type."""
    rounded: NDArray[Any] = np.rint(values)
    return rounded


def accumulator_scale(input_scale: float, weight_scale: Floats) -> Floats:
    """Return the float32 scale of an accumulator per output channel, ``s_x * s_w``; shape [O]."""
    return F32(input_scale) * weight_scale


def product_scale(first_scale: float, second_scale: float) -> Floats:
    """Return the float32 scale of a product of two codes, ``s_a * s_b``; shape []."""
    return np.asarray(F32(first_scale) * F32(second_scale))


def multiplier(scale: Floats, output_scale: float) -> Floats:
    """Return a requantization's float32 factor ``scale / output_scale``, shaped as ``scale``."""
    return scale / F32(output_scale)


def rescale(acc: Accumulators, scale: Floats) -> Floats:
    """Return float32 of int32 ``acc`` [N, O, ...]: one product each; ``scale`` broadcasts."""
    real: Floats = acc.astype(F32) * scale
    return real


def requantize(acc: Accumulators, factor: Floats, zero_point: int, low: int, high: int) -> Codes:
    """Return the uint8 codes of int32 ``acc`` [N, O, ...]; ``factor`` broadcasts against it."""
    steps = round_half_even(acc.astype(F32) * factor) + F32(zero_point)
    return np.clip(steps, low, high).astype(np.uint8)


def quantize(real: Floats, scale: float, zero_point: int, low: int, high: int) -> Codes:
    """Return the uint8 codes of float32 values of any shape: ONNX QuantizeLinear, then a clip.

    The clip is to ``low..high``. NaN becomes ``low``, as in onnxruntime; infinities saturate.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # huge values, and NaN that signals
        steps = round_half_even(real / F32(scale)) + F32(zero_point)
    return np.fmin(np.fmax(steps, low), high).astype(np.uint8)


def dequantize(codes: Codes, scale: float, zero_point: int) -> Floats:
    """Return the float32 values of uint8 codes of any shape: ONNX DequantizeLinear."""
    return (codes.astype(np.int32) - zero_point).astype(F32) * F32(scale)


def average_multiplier(input_scale: float, output_scale: float, count: NDArray[Any]) -> Floats:
    """Return the float32 factor from sums of ``count`` codes to output steps, shaped as ``count``.

    The division by ``output_scale * count`` in this order is onnxruntime's global average pool.
    """
    divisor: Floats = F32(output_scale) * count.astype(F32)
    return F32(input_scale) / divisor


def weight_limits(bits: int) -> tuple[int, int]:
    """Return the smallest and largest symmetric weight code: 1 bit is the pair -1, +1."""
    return (-1, 1) if bits == 1 else (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1)
