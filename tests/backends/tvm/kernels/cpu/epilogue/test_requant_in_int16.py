"""Requantization in int16 equals the definition for every accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_in_int16 import (
    LARGEST_CODE,
    Int16Scale,
    int16_codes,
    int16_scale,
)
from gmpq.ir import QParams
from gmpq.numerics import requantize


def check(found: Int16Scale, bounds: Array, factor: Array, q: QParams) -> None:
    """Assert that all accumulators in ``bounds`` [2, O] have the codes of the definition."""
    for channel, (low, high) in enumerate(bounds.T):
        acc = np.arange(low, high + 1)
        expected = requantize(acc.astype(np.int32), factor[channel], q.zero_point, q.low, q.high)
        only = Int16Scale(*(getattr(found, name)[[channel]] for name in found.__slots__))
        assert np.abs(acc * only.times[0] + only.raised[0]).max() < 1 << 31
        np.testing.assert_array_equal(expected, int16_codes(acc[None], only, q)[0])


@given(
    seed=st.integers(0, 10_000),
    spread=st.integers(1, 16),
    bits=st.integers(1, 5),
    zero_point=st.integers(0, 31),
    size=st.sampled_from([10, 1000, 300_000]),
)
@settings(max_examples=60, deadline=None)
def test_all_accumulators_agree(
    seed: int, spread: int, bits: int, zero_point: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    bounds = np.stack([-rng.integers(0, size, 3), rng.integers(0, size, 3)])
    q = QParams.full(1.0, zero_point % (1 << bits), bits)
    factor = (rng.uniform(0.5, 2, 3) * (1 << bits) / size * spread / 8).astype(np.float32)
    found = int16_scale(*bounds, factor, q, rng.integers(1, 129, 3))
    if found is not None:
        check(found, bounds, factor, q)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_typical_layers_have_constants(bits: int) -> None:
    rng = np.random.default_rng(bits)
    bounds = np.stack([-rng.integers(1000, 9000, 64), rng.integers(1000, 9000, 64)])
    factor = (rng.uniform(2.5e-4, 1e-3, 64) * (1 << bits)).astype(np.float32)
    q = QParams.full(1.0, 0, bits)
    found = int16_scale(*bounds, factor, q, np.full(64, 7))
    assert found is not None
    assert (found.times > 1).any()
    assert (found.times * 7 <= 127).all()
    check(found, bounds, factor, q)


def test_the_last_step_that_int16_holds() -> None:
    """Accumulators saturate one beyond it; where the step is two further, no constants exist."""
    q = QParams.full(1.0, 0, 1)
    for step, exists in ((32_758, True), (32_790, False)):
        bounds, factor = np.array([[-70_000], [70_000]]), np.array([0.5 / (step - 0.5)], np.float32)
        found = int16_scale(*bounds, factor, q, np.ones(1, np.int64))
        assert (found is not None) == exists
        if found is not None:
            assert found.times[0] == 1
            check(found, bounds, factor, q)


def test_a_channel_of_one_code() -> None:
    q, factor = QParams.full(1.0, 2, 4), np.array([0.29, 0.29, 1e-6], np.float32)
    bounds = np.array([[-40, 4, -900], [40, 4, 900]])
    found = int16_scale(*bounds, factor, q, np.array([3, 0, 128]))
    assert found is not None
    check(found, bounds, factor, q)


def test_codes_between_other_ends() -> None:
    q, factor = QParams(1.0, 3, 4, 2, 11), np.array([0.013], np.float32)
    bounds = np.array([[-4000], [4000]])
    found = int16_scale(*bounds, factor, q, np.array([7]))
    assert found is not None
    check(found, bounds, factor, q)


def test_what_has_no_constants() -> None:
    bounds, one, factor = np.array([[-9], [9]]), np.ones(1, np.int64), np.array([0.5], np.float32)
    assert int16_scale(*bounds, factor, QParams(1.0, 0, 8, 0, LARGEST_CODE + 1), one) is None
    assert int16_scale(*bounds, factor, QParams(1.0, 0, 4, 3, 3), one) is None
    assert int16_scale(*bounds, np.zeros(1, np.float32), QParams.full(1.0, 0, 4), one) is None
    far, tiny = bounds << 40, np.array([1e-9], np.float32)
    assert int16_scale(*far, tiny, QParams.full(1.0, 0, 4), one) is None
