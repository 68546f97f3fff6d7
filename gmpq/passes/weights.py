"""Weights to symmetric codes with one scale per output channel; biases to accumulator steps.

Weights of one bit are -1 and 1 times the mean magnitude of their channel: Rastegari et al.,
"XNOR-Net", ECCV 2016, section 3.1.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.errors import CalibrationError, LoweringError, WeightsError, closest
from gmpq.ir import FloatConv2d, FloatLinear, QParams, QWeight
from gmpq.passes.ranges import LARGEST_SCALE, SMALLEST_SCALE

BIAS_LIMIT = 1 << 29  # leaves three quarters of int32 to the products
LOSSLESS_RATIO = 2.0**-60  # a channel this many times below an output step adds nothing

_COARSE = np.geomspace(1.0, 0.2, 17)  # of max|w|; normal weights at 2 bits are best near 0.3
_FINE = np.geomspace(1.05, 1 / 1.05, 7)  # around the best coarse one
_REFINEMENTS = 2


class WeightObserver(Enum):
    """How the scale of a channel is chosen; one bit is always the mean of the magnitudes."""

    MIN_MAX = "minmax"  # the largest magnitude is the largest code
    MSE = "mse"  # least squared error: large weights are clipped for the sake of the others


def find_weight_observer(name: str) -> WeightObserver:
    """Return the weight observer called ``name``.

    Raises:
        CalibrationError: if there is none, with the nearest names.
    """
    names = [observer.value for observer in WeightObserver]
    if name not in names:
        raise CalibrationError(
            f"weight observer {name!r} is unknown{closest(name, names)}: use {', '.join(names)}"
        )
    return WeightObserver(name)


def quantize_layer(
    node: FloatConv2d | FloatLinear,
    bits: int,
    qx: QParams,
    qy: QParams | None,
    observer: WeightObserver,
) -> QWeight:
    """Return the codes of a layer that reads codes ``qx`` and writes codes ``qy``, or float32.

    Codes are int8 in the shape of the weight, [O, I, kH, kW] or [O, I]; scales are float32 [O], the
    bias int32 [O] in steps of ``qx.scale * scale``.

    Raises:
        WeightsError: if a weight or bias is not finite, or too large.
        LoweringError: if an input could overflow the int32 accumulator.
    """
    _check_finite(node)
    rows = node.weight.reshape(len(node.weight), -1)
    floor = smallest_scales(node.bias, qx, qy)
    scale = np.maximum(channel_scales(rows, bits, observer), floor)
    codes = weight_codes(rows, scale, bits)
    steps = numerics.accumulator_scale(qx.scale, scale).astype(np.float64)
    bias = numerics.round_half_even(node.bias.astype(np.float64) / steps).astype(np.int32)
    weight = QWeight(codes.reshape(node.weight.shape), scale, bias, bits)
    check_accumulator(node.name, weight, qx)
    return weight


def channel_scales(
    rows: NDArray[np.float32], bits: int, observer: WeightObserver
) -> NDArray[np.float32]:
    """Return a float32 scale per row [O] of ``rows`` [O, K]; 0 for a row of zeros."""
    if bits == 1:
        means: NDArray[np.float32] = np.abs(rows).mean(axis=1, dtype=np.float64).astype(np.float32)
        return means
    limit = numerics.weight_limits(bits)[1]
    top: NDArray[np.float32] = np.abs(rows).max(axis=1) / np.float32(limit)
    match observer:
        case WeightObserver.MIN_MAX:
            return top
        case WeightObserver.MSE:
            return _least_squares(rows, top, limit)
        case _:
            assert_never(observer)


def weight_codes(
    rows: NDArray[np.float32], scale: NDArray[np.float32], bits: int
) -> NDArray[np.int8]:
    """Return the int8 codes of ``rows`` [O, K] in steps of ``scale`` [O]."""
    if bits == 1:
        return np.where(rows < 0, -1, 1).astype(np.int8)
    steps = numerics.round_half_even(rows / scale[:, None])
    codes: NDArray[np.int8] = np.clip(steps, *numerics.weight_limits(bits)).astype(np.int8)
    return codes


def _least_squares(
    rows: NDArray[np.float32], top: NDArray[np.float32], limit: int
) -> NDArray[np.float32]:
    best = _search(rows, top, limit, _COARSE)
    best = _search(rows, best, limit, _FINE)
    for _ in range(_REFINEMENTS):  # the best scale for given codes, then the codes for it
        steps = np.clip(np.rint(rows / _divisor(best)[:, None]), -limit, limit)
        best = (rows * steps).sum(axis=1) / _divisor((steps * steps).sum(axis=1))
    found: NDArray[np.float32] = np.where(top > 0, best, 0).astype(np.float32)
    return found


def _search(
    rows: NDArray[np.float32], scale: NDArray[np.float32], limit: int, factors: NDArray[np.float64]
) -> NDArray[np.float32]:
    candidates = scale * factors.astype(np.float32)[:, None]  # [F, O]
    losses = [_loss(rows, candidate, limit) for candidate in candidates]
    chosen: NDArray[np.float32] = candidates[np.argmin(losses, axis=0), np.arange(len(rows))]
    return chosen


def _loss(rows: NDArray[np.float32], scale: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    step = _divisor(scale)[:, None]
    error = np.clip(np.rint(rows / step), -limit, limit) * step - rows
    squares: NDArray[np.float32] = np.einsum("ok,ok->o", error, error)
    return squares


def _divisor(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(values > 0, values, np.float32(1))


def smallest_scales(
    bias: NDArray[np.float32], qx: QParams, qy: QParams | None
) -> NDArray[np.float32]:
    """Return the scales [O] below which a bias would not fit, or a multiplier not be normal."""
    magnitudes = np.abs(bias.astype(np.float64)) / (qx.scale * BIAS_LIMIT)
    lossless = 0.0 if qy is None else qy.scale / qx.scale * LOSSLESS_RATIO
    floor = max(SMALLEST_SCALE**2, lossless)
    found: NDArray[np.float32] = np.maximum(magnitudes, floor).astype(np.float32)
    return found


def _check_finite(node: FloatConv2d | FloatLinear) -> None:
    for kind, array in (("weight", node.weight), ("bias", node.bias)):
        if not np.isfinite(array).all():
            raise WeightsError(f"layer '{node.name}': {kind} holds nan or inf: train it again")
        if np.abs(array).max(initial=0) > LARGEST_SCALE:
            raise WeightsError(
                f"layer '{node.name}': {kind} reaches {np.abs(array).max():g}, "
                "beyond what scales can follow: check the weights file"
            )


def check_accumulator(name: str, weight: QWeight, qx: QParams) -> None:
    """Pass a layer whose accumulators stay within int32 for every input.

    Raises:
        LoweringError: if they may not.
    """
    reach = max(qx.high - qx.zero_point, qx.zero_point - qx.low, 0)
    sums = np.abs(weight.codes.astype(np.int64)).reshape(len(weight.codes), -1).sum(axis=1)
    bound = int((sums * reach + np.abs(weight.bias.astype(np.int64))).max())
    if bound > np.iinfo(np.int32).max:
        raise LoweringError(
            f"layer '{name}': its sums can reach {bound}, beyond int32: use fewer bits for it"
        )
