"""The constants of requantization, which all kinds of targets share.

Accumulators of codes as they lie in memory start at ``bias - z * sum of w``. A requantized copy is
defined with two roundings, in the product ``(x - z_x) * s_x`` and in the quotient by ``s_y``. Over
the 256 codes that exist this mostly equals

    y = clip(round_half_even((x - z_x) * factor) + z_y, low, high)

with one factor near s_x / s_y, which is tried on all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.ir import QParams, QWeight
from gmpq.numerics import Codes

CODES = np.arange(256, dtype=np.uint8)


def start_and_factor(
    weight: QWeight, qx: QParams, qy: QParams | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return int32 ``bias - z * sum of w`` and the float32 factor of the accumulators, both [O]."""
    start = starts(weight, qx)
    assert np.abs(start).max() < 1 << 31, "spec.check bounds the accumulator"
    scale = numerics.accumulator_scale(qx.scale, weight.scale)
    factor = scale if qy is None else numerics.multiplier(scale, qy.scale)
    return start.astype(np.int32), factor


def starts(weight: QWeight, qx: QParams) -> NDArray[np.int64]:
    """Return int64 ``bias - z * sum of w``, [O]."""
    sums = weight.codes.reshape(len(weight.codes), -1).sum(axis=1, dtype=np.int64)
    start: NDArray[np.int64] = weight.bias - qx.zero_point * sums
    return start


def requantized(source: QParams, q: QParams) -> Codes:
    """Return the copy of each of the 256 codes, uint8 [256], by the definition."""
    real = numerics.dequantize(CODES, source.scale, source.zero_point)
    return numerics.quantize(real, q.scale, q.zero_point, q.low, q.high)


def exact_factor(source: QParams, q: QParams) -> np.float32 | None:
    """Return a factor that requantizes every code as the definition does, or None."""
    expected = requantized(source, q)
    steps = CODES.astype(np.int32) - source.zero_point
    middle = np.float32(source.scale) / np.float32(q.scale)
    for factor in (middle, *(np.nextafter(middle, np.float32(end)) for end in (0, 1e9))):
        found = numerics.requantize(steps, np.array(factor), q.zero_point, q.low, q.high)
        if np.array_equal(expected, found):
            return np.float32(factor)
    return None
