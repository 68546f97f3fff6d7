"""The constants that end a layer, and the proof that its steps fit int32.

Memory holds codes from 0 to the highest, or the zero point in a border. So the sum of the negative
weights of an output, times the highest code, is a bound of its accumulator from below, and that of
the positive ones from above. ``cvtps2dq`` rounds ``float32(acc) * factor`` exactly as the
definition does, while that is smaller than 2**31.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.requant import start_and_factor, starts
from gmpq.ir import QParams, QWeight

Integers: TypeAlias = NDArray[np.int64]

STEPS = float(1 << 31)  # that int32 does not hold
ROUNDED_UP = 1.000001  # two float32 roundings make a product larger at most so much


def accumulators(weight: QWeight, qx: QParams) -> tuple[Integers, Integers]:
    """Return the smallest and the largest accumulator, [O], over all codes that memory may hold."""
    codes = weight.codes.reshape(len(weight.codes), -1).astype(np.int64)
    start, most = starts(weight, qx), max(qx.high, qx.zero_point)
    low, high = (most * side(codes, 0).sum(axis=1) + start for side in (np.minimum, np.maximum))
    return low, high


def largest_step(weight: QWeight, qx: QParams, qy: QParams) -> float:
    """Return a bound of ``|float32(acc) * factor|`` over all codes that memory may hold."""
    bound = np.abs(accumulators(weight, qx)).max(axis=0).astype(np.float64)
    _, factor = start_and_factor(weight, qx, qy)
    return float((bound * factor).max()) * ROUNDED_UP
