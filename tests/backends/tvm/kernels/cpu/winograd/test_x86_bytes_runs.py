"""Runs of Winograd products in bytes: what int16 holds, and what is left to overflow steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import F2
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_overflow import SplitWeights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_runs import (
    PositionRuns,
    choose,
    first_steps,
    in_steps,
    lane_limits,
)

Array = NDArray[Any]
LANES = 8
INT16 = np.iinfo(np.int16)


def proof_of(weights: Array, *spans: int) -> Proof:
    """Return what is known of weights [positions, O, I] and of codes in 0..span."""
    sums, offsets = weights.sum(axis=2, dtype=np.int64), np.zeros(len(weights), np.int64)
    return Proof(F2, offsets, "int8", weights, (), sums, np.array(spans))


def added(kept: Array, codes: Array, length: int) -> Array:
    """Return the sums of lanes as vpmaddubsw, vpaddw and vpmaddwd make them, run by run.

    ``kept`` [depth, lanes of int16, 2] and ``codes`` [depth, lanes of int16, 2].
    """
    products = (kept.astype(np.int32) * codes).sum(axis=2)
    assert products.max() <= INT16.max
    assert products.min() >= INT16.min  # nothing saturates
    runs = np.add.reduceat(products, first_steps(len(kept), length), axis=0).astype(np.int16)
    return np.asarray(runs.astype(np.int64).sum(axis=0))


@given(
    deviation=st.sampled_from([4, 20, 50, 120]),
    span=st.sampled_from([30, 126, 252, 255]),
    length=st.sampled_from([1, 2, 3, 4, 16]),
    seed=st.integers(0, 999),
)
def test_kept_and_extra_weights_add_up(deviation: int, span: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, inputs = int(rng.integers(1, 20)), int(rng.integers(1, 40))
    vectors = 1 + seed % 2 if outputs > LANES else 1
    bell = np.clip(rng.normal(0, deviation, (outputs, inputs)).round(), -254, 254)
    weights = bell.astype(np.int16)
    packed = SplitWeights.of(weights, span, (LANES, vectors), length)
    count, depth = packed.kept.shape[:2]
    kept = packed.kept.reshape(count, depth, -1, 2)
    overflow = packed.overflow.reshape(*packed.steps.shape, kept.shape[2], 2)
    split = in_steps(weights[None], LANES)[0]
    for group in range(count):
        first = min(group * vectors, len(split) - vectors)
        whole = split[first : first + vectors].swapaxes(0, 1).reshape(depth, -1, 2)
        codes = rng.integers(0, span + 1, (depth, 2))
        worst = np.where(whole > 0, span, 0) if seed % 3 else np.where(whole > 0, 0, span)
        for x in (np.broadcast_to(codes[:, None], whole.shape), worst):
            total = added(kept[group], x, min(length, depth))
            for step, some in zip(packed.steps[group], overflow[group], strict=True):
                total = total + added(some[None], x[step : step + 1], 1)
            np.testing.assert_array_equal(total, (whole.astype(np.int64) * x).sum(axis=(0, 2)))


def test_a_heavy_step_is_extra_twice() -> None:
    weights = np.full((8, 4), 254, np.int16)  # three times what a lane holds of codes up to 255
    packed = SplitWeights.of(weights, 255, (LANES, 1), 1)
    assert packed.steps.tolist() == [[0, 0, 0]]
    total = packed.kept[0, 0].astype(int) + packed.overflow[0].astype(int).sum(axis=0)
    assert (total == 254).all()


RUNS = [
    pytest.param(127, 8, 16, id="whole"),  # 16 * 2 * 8 * 127 = 32512
    pytest.param(127, 64, 2, id="two-steps"),  # 2 * 2 * 64 * 127 = 32512
    pytest.param(127, 129, 1, id="one-step"),  # 2 * 129 * 127 = 32766
    pytest.param(127, 130, None, id="a-step-saturates"),
    pytest.param(128, 8, None, id="no-byte"),
]


@pytest.mark.parametrize(("weight", "span", "expected"), RUNS)
def test_runs_are_as_long_as_their_sums_fit(weight: int, span: int, expected: int | None) -> None:
    proof = proof_of(np.full((1, 8, 64), weight, np.int16), span)
    found = choose(proof, (LANES, 1), overflow_steps=False)
    assert found == (None if expected is None else PositionRuns((expected,), (0,)))


def test_few_heavy_lanes_do_not_shorten_a_run() -> None:
    weights = np.ones((2, 8, 256), np.int16)
    weights[1, 3, :40] = 127
    proof, form = proof_of(weights, 100, 100), (LANES, 1)
    alone, found = (
        choose(proof, form, overflow_steps=overflow_steps) for overflow_steps in (False, True)
    )
    assert alone is not None
    assert alone.lengths == (64, 1)
    assert found is not None
    assert found.lengths[1] > 1
    assert found.overflow_steps[1] > 0


def test_too_many_extra_steps_are_no_choice() -> None:
    weights = np.full((1, 8, 64), 254, np.int16)
    assert choose(proof_of(weights, 255), (LANES, 1), overflow_steps=True) is None


def test_long_runs_are_chosen_alone() -> None:
    weights = np.ones((2, 8, 256), np.int16)
    weights[1] = 5  # 16 steps of two weights are 160, and 130 fit
    proof, form = proof_of(weights, 100, 252), (LANES, 1)
    both = choose(proof, form, overflow_steps=False)
    assert both is not None
    assert both.lengths == (64, 4)
    assert choose(proof, form, overflow_steps=False, long=True) is None


def test_positions_of_one_length_have_as_many_extra_steps() -> None:
    assert PositionRuns((1, 2, 1), (3, 0, 5)).evened == PositionRuns((1, 2, 1), (5, 0, 5))


def test_the_first_run_is_what_is_left_over() -> None:
    assert first_steps(8, 3).tolist() == [0, 2, 5]
    assert first_steps(9, 3).tolist() == [0, 3, 6]
    assert first_steps(4, 4).tolist() == [0]


def test_int16_holds_one_step_more_below_zero() -> None:
    assert lane_limits(255).tolist() == [128, 128]
    assert lane_limits(1).tolist() == [32767, 32768]
