"""Requantization by one instruction equals the definition for every accumulator."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import (
    BITS,
    ONE,
    fused_codes,
    fused_scale,
)
from gmpq.ir import QParams
from gmpq.numerics import requantize


@given(
    seed=st.integers(0, 10_000),
    spread=st.integers(1, 16),
    bits=st.integers(1, 8),
    zero_point=st.integers(0, 255),
    size=st.sampled_from([10, 1000, 300_000]),
)
@settings(max_examples=40, deadline=None)
def test_all_accumulators_agree(
    seed: int, spread: int, bits: int, zero_point: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    low, high = -rng.integers(0, size, 3), rng.integers(0, size, 3)
    q = QParams.full(1.0, zero_point % (1 << bits), bits)
    factor = (rng.uniform(0.5, 2, 3) * (1 << bits) / size * spread / 8).astype(np.float32)
    found = fused_scale(low, high, factor, q)
    if found is None:
        return
    for channel in range(3):
        acc = np.arange(low[channel], high[channel] + 1)
        expected = requantize(acc.astype(np.int32), factor[channel], q.zero_point, q.low, q.high)
        anchor = np.array(int(found.raised[channel]) - BITS + ONE)
        assert (anchor + acc >= ONE).all()
        assert (anchor + acc < 2 * ONE).all()
        codes = fused_codes(acc, anchor, float(found.factor[channel]), q)
        np.testing.assert_array_equal(expected, codes)


def test_typical_layers_are_fused() -> None:
    rng = np.random.default_rng(0)
    low, high = -rng.integers(1000, 100_000, 64), rng.integers(1000, 100_000, 64)
    factor = rng.uniform(1e-3, 1e-2, 64).astype(np.float32)
    assert fused_scale(low, high, factor, QParams.full(1.0, 0, 8)) is not None


def test_sums_in_the_lower_half() -> None:
    """With the room of int16, the upper half of the bits is always that of 2**23."""
    rng = np.random.default_rng(0)
    low, high = -rng.integers(100, 9_000, 64), rng.integers(100, 50_000, 64)
    factor = rng.uniform(1e-3, 1e-2, 64).astype(np.float32)
    found = fused_scale(low, high, factor, QParams.full(1.0, 0, 8), 1 << 16)
    assert found is not None
    for acc in (low, high):
        assert ((found.raised + acc).astype(np.uint32) >> 16 == BITS >> 16).all()


def test_a_tie_of_the_definition_alone() -> None:
    """float32(acc) * m rounds to a tie that the exact product misses: a neighbour of m helps."""
    q, m = QParams.full(1.0, 0, 6), np.array([0.020094562], np.float32)
    low, high = np.array([-5816]), np.array([1366])
    found = fused_scale(low, high, m, q, 1 << 16)
    assert found is not None
    assert found.factor[0] != m[0]
    anchor, acc = np.array(int(found.raised[0]) - BITS + ONE), np.arange(low[0], high[0] + 1)
    expected = requantize(acc.astype(np.int32), m, 0, 0, 63)
    np.testing.assert_array_equal(expected, fused_codes(acc, anchor, float(found.factor[0]), q))


def test_ties_are_kept() -> None:
    """A factor of one half makes every odd accumulator a tie; no error of b is allowed."""
    q, half = QParams.full(1.0, 3, 8), np.array([0.5], np.float32)
    found = fused_scale(np.array([-50]), np.array([50]), half, q)
    assert found is not None
    anchor, acc = np.array(int(found.raised[0]) - BITS + ONE), np.arange(-50, 51)
    expected = requantize(acc.astype(np.int32), half, 3, 0, 255)
    np.testing.assert_array_equal(expected, fused_codes(acc, anchor, float(found.factor[0]), q))


def test_what_has_no_room_is_not_fused() -> None:
    q, one = QParams.full(1.0, 0, 8), np.array([1e-5], np.float32)
    assert fused_scale(np.array([0]), np.array([ONE - ONE // 16]), one, q) is None
    assert fused_scale(np.array([0]), np.array([9]), np.zeros(1, np.float32), q) is None


def test_accumulators_that_float32_rounds_are_not_fused() -> None:
    q, factor = QParams.full(1.0, 0, 8), np.array([107.5 / (1 << 30)], np.float32)
    low = np.array([(1 << 30) - 100_000])
    assert fused_scale(low, low + 200_000, factor, q) is None
