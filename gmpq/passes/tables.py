"""Tables of unary functions: ``table[code] = quantize(f(dequantize(code)))``."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.ir import Clamp, Function, HardSwish, LeakyRelu, PRelu, QParams, Sigmoid, Silu

Reals = NDArray[np.float64]


def table(function: Function, qx: QParams, qy: QParams) -> NDArray[np.uint8]:
    """Return the output code per input code, [256], or [C, 256] for a PRelu of C slopes.

    Input codes above what ``qx`` holds have entries too, so that no table needs a bound check.
    """
    codes = np.arange(256, dtype=np.uint8)
    real = numerics.dequantize(codes, qx.scale, qx.zero_point).astype(np.float64)
    image = apply(function, real).astype(np.float32)
    return numerics.quantize(image, qy.scale, qy.zero_point, qy.low, qy.high)


def apply(function: Function, x: Reals) -> Reals:
    """Return ``function(x)`` in float64, [..., n] for ``x`` [n]: [C, n] for a PRelu."""
    match function:
        case Clamp():
            return np.clip(x, function.low, function.high)
        case LeakyRelu():
            return np.where(x >= 0, x, function.slope * x)
        case PRelu():
            return np.where(x >= 0, x, function.slopes.astype(np.float64)[:, None] * x)
        case Silu():
            return x * _sigmoid(x)
        case HardSwish():
            swished: Reals = x * np.clip(x + 3, 0, 6) / 6
            return swished
        case Sigmoid():
            return _sigmoid(x)
        case _:
            assert_never(function)


def _sigmoid(x: Reals) -> Reals:
    # exp of a large positive number would overflow
    decay: Reals = np.exp(-np.abs(x))
    image: Reals = np.where(x >= 0, 1, decay) / (1 + decay)
    return image
