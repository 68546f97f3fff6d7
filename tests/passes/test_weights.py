from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmpq import numerics
from gmpq.errors import LoweringError, WeightsError
from gmpq.ir import FloatLinear, QParams, QWeight
from gmpq.passes.weights import WeightObserver, channel_scales, quantize_layer, weight_codes

QX = QParams.full(0.02, 0, 8)
QY = QParams.full(0.05, 128, 8)


def _linear(weight: object, bias: object = 0.0, name: str = "fc") -> FloatLinear:
    rows = np.asarray(weight, np.float32)
    biases = np.broadcast_to(np.asarray(bias, np.float32), len(rows)).copy()
    return FloatLinear(name, ("x",), "y", rows, biases)


def _loss(rows: NDArray[Any], scale: NDArray[Any], bits: int) -> NDArray[Any]:
    codes = weight_codes(rows, scale, bits)
    loss: NDArray[Any] = np.square(codes * scale[:, None].astype(np.float64) - rows).sum(axis=1)
    return loss


def _rows(seed: int, outputs: int = 6, inputs: int = 90) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, (outputs, inputs)) * rng.uniform(0.01, 3, (outputs, 1))).astype("f4")


@pytest.mark.parametrize("bits", range(2, 9))
def test_minmax_gives_the_largest_magnitude_the_largest_code(bits: int) -> None:
    rows = _rows(bits)
    scale = channel_scales(rows, bits, WeightObserver.MIN_MAX)
    codes = weight_codes(rows, scale, bits)
    low, high = numerics.weight_limits(bits)
    assert codes.dtype == np.int8
    assert (np.abs(codes).max(axis=1) == high).all()
    assert codes.min() >= low
    assert (np.abs(codes * scale[:, None] - rows) <= 0.5001 * scale[:, None]).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_mse_is_close_to_the_best_scale_of_a_dense_search(bits: int) -> None:
    rows = _rows(bits)
    found = _loss(rows, channel_scales(rows, bits, WeightObserver.MSE), bits)
    top = np.abs(rows).max(axis=1) / numerics.weight_limits(bits)[1]
    dense = [_loss(rows, (top * f).astype("f4"), bits) for f in np.linspace(0.05, 1.1, 2000)]
    np.testing.assert_array_less(found, 1.1 * np.min(dense, axis=0))
    assert (found <= _loss(rows, top, bits) * 1.0001).all()


def test_one_bit_is_a_sign_and_the_mean_magnitude() -> None:
    weight = quantize_layer(_linear([[1, -3, 0], [-2, 2, 2]]), 1, QX, QY, WeightObserver.MSE)
    assert weight.codes.tolist() == [[1, -1, 1], [-1, 1, 1]]
    np.testing.assert_allclose(weight.scale, [4 / 3, 2])


def test_biases_are_in_accumulator_steps() -> None:
    weight = quantize_layer(
        _linear([[1.27], [0.5]], [2.0, -1.0]), 8, QX, QY, WeightObserver.MIN_MAX
    )
    np.testing.assert_allclose(weight.bias * (0.02 * weight.scale), [2.0, -1.0], rtol=1e-3)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_a_channel_of_zeros_keeps_its_bias(bits: int) -> None:
    layer = _linear([[0, 0], [0, 0], [1, -1]], [0, -3.5, 0])
    weight = quantize_layer(layer, bits, QX, QY, WeightObserver.MSE)
    assert (weight.scale > 0).all()
    real = numerics.accumulator_scale(QX.scale, weight.scale) * weight.bias
    np.testing.assert_allclose(real, [0, -3.5, 0], rtol=1e-5)
    assert _is_normal(numerics.multiplier(numerics.accumulator_scale(QX.scale, weight.scale), 0.05))


@settings(max_examples=200)
@given(
    exponents=st.tuples(*[st.integers(-45, 28)] * 2, *[st.integers(-30, 30)] * 2),
    bits=st.integers(1, 8),
    observer=st.sampled_from(WeightObserver),
)
def test_any_magnitudes_give_normal_scales_and_biases_that_fit(
    exponents: tuple[int, int, int, int], bits: int, observer: WeightObserver
) -> None:
    weights, biases, sx, sy = (2.0**e for e in exponents)
    rng = np.random.default_rng(bits)
    layer = _linear(rng.normal(0, weights, (4, 9)), rng.normal(0, biases, 4))
    qx, qy = QParams.full(sx, 7, 8), QParams.full(sy, 0, 8)
    weight = quantize_layer(layer, bits, qx, qy, observer)
    steps = numerics.accumulator_scale(sx, weight.scale)
    for scale in (weight.scale, steps, numerics.multiplier(steps, sy)):
        assert _is_normal(scale)
    error = np.abs(weight.bias * steps.astype(np.float64) - layer.bias)
    assert (error <= 0.51 * steps).all()


def test_sums_that_overflow_are_refused() -> None:
    layer = _linear(np.ones((1, 70_000)), name="wide")
    with pytest.raises(LoweringError, match=r"layer 'wide': its sums can reach .* beyond int32"):
        quantize_layer(layer, 8, QX, QY, WeightObserver.MIN_MAX)
    assert quantize_layer(layer, 4, QX, QY, WeightObserver.MIN_MAX).codes.max() == 7


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        pytest.param(_linear([[np.nan]]), "weight holds nan or inf", id="nan"),
        pytest.param(_linear([[1.0]], -np.inf), "bias holds nan or inf", id="inf-bias"),
        pytest.param(_linear([[1e30]]), "weight reaches 1e[+]30", id="huge"),
    ],
)
def test_bad_weights_are_refused(layer: FloatLinear, message: str) -> None:
    with pytest.raises(WeightsError, match=f"layer 'fc': {message}"):
        quantize_layer(layer, 8, QX, QY, WeightObserver.MSE)


def test_codes_do_not_depend_on_the_other_channels() -> None:
    rows = _rows(0)
    together = _weight(rows)
    for channel in range(len(rows)):
        alone = _weight(rows[channel : channel + 1])
        np.testing.assert_array_equal(together.codes[channel], alone.codes[0])


def _weight(rows: NDArray[np.float32]) -> QWeight:
    return quantize_layer(_linear(rows), 4, QX, QY, WeightObserver.MSE)


def _is_normal(scales: NDArray[np.float32]) -> bool:
    return bool((scales >= np.finfo(np.float32).tiny).all() and np.isfinite(scales).all())
