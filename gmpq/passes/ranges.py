"""Ranges of real numbers to the parameters of codes: ``real = scale * (code - zero_point)``.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", CVPR 2018, equation 1; ONNX ``DequantizeLinear``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from gmpq import numerics
from gmpq.errors import CalibrationError
from gmpq.ir import Clamp, QParams
from gmpq.passes.scale_groups import SharedScale

Range: TypeAlias = tuple[float, float]
RangeOf: TypeAlias = Callable[[str, int], Range]  # of a value at a number of bits

LARGEST_SCALE = float(1 << 30)  # products and quotients of two scales stay normal float32
SMALLEST_SCALE = 1 / LARGEST_SCALE


def encode_scale_group(
    shared: SharedScale, range_of: RangeOf, clips: Mapping[str, Clamp]
) -> dict[str, QParams]:
    """Return the parameters of every value of a scale group.

    The scale is the smallest that cuts no member's range. A zero point is 0 for a group without
    negative values; otherwise what the range leaves unused is shared between both of its ends.

    Raises:
        CalibrationError: if a range is too large for float32 arithmetic on scales.
    """
    maximum = (1 << shared.bits) - 1
    ranges = [_hull([range_of(value, shared.bits) for value in group]) for group in shared.groups]
    scale = _scale(max(high - low for low, high in ranges), maximum, shared.groups[0][0])
    found: dict[str, QParams] = {}
    for group, bounds in zip(shared.groups, ranges, strict=True):
        full = QParams.full(scale, _zero_point(bounds, scale, maximum), shared.bits)
        found |= {value: _clipped(full, clips.get(value)) for value in group}
    return found


def encode(value: str, bits: int, range_of: RangeOf) -> QParams:
    """Return the parameters of ``value`` alone, with the whole range of ``bits``.

    Raises:
        CalibrationError: if the range is too large for float32 arithmetic on scales.
    """
    return encode_scale_group(SharedScale(((value,),), bits), range_of, {})[value]


def _hull(ranges: list[Range]) -> Range:
    return min(0.0, *(low for low, _ in ranges)), max(0.0, *(high for _, high in ranges))


def _scale(width: float, maximum: int, value: str) -> float:
    if width == 0:
        return numerics.as_float32(1 / maximum)  # only zeros were seen: any scale holds them
    scale = numerics.as_float32(width / maximum)
    if not scale <= LARGEST_SCALE:
        raise CalibrationError(
            f"value '{value}' spans {width:g}, which no 8-bit code can follow: "
            "check the weights and the preprocessing"
        )
    return max(scale, SMALLEST_SCALE)


def _zero_point(bounds: Range, scale: float, maximum: int) -> int:
    low, high = bounds
    if low == 0:
        return 0
    slack = max(maximum - (high - low) / scale, 0.0)
    return int(np.clip(round(-low / scale + slack / 2), 0, maximum))


def _clipped(q: QParams, clamp: Clamp | None) -> QParams:
    if clamp is None:
        return q
    low, high = _code(clamp.low, q), _code(clamp.high, q)
    return QParams(q.scale, q.zero_point, q.bits, low, high)


def _code(real: float, q: QParams) -> int:
    if math.isinf(real):
        return q.high if real > 0 else q.low
    array = np.array([real], np.float32)
    return int(numerics.quantize(array, q.scale, q.zero_point, q.low, q.high)[0])
