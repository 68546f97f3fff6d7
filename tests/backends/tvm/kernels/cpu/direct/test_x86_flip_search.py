"""Codes flipped where lanes would overflow, steps in pairs: exact, and as few as need be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.cpu.direct import pairing
from gmpq.backends.tvm.kernels.cpu.direct.x86_flip_search import (
    STEP_GROUPS,
    GroupTable,
    StepGroup,
    group_tables,
)

INT16 = np.iinfo(np.int16)


def weights_of(rng: np.random.Generator, size: int, blocks: int = 2, steps: int = 21) -> np.ndarray:
    """Return bell-shaped weights with a few large ones, int16 [blocks, steps, lanes, 2]."""
    shape = (blocks, steps, 8, 2)
    bell = rng.normal(0, size / 3, shape).round()
    large = rng.choice([-size, size], shape)
    return np.clip(np.where(rng.random(shape) < 0.03, large, bell), -size, size).astype(np.int16)


def sums(table: GroupTable, group: StepGroup, codes: np.ndarray, top: int) -> np.ndarray:
    """Return what ``table`` adds for codes [steps, 2] as its instructions do, by lane."""
    kept, total = group.steps - group.flipped, np.zeros(table.vectors.shape[2], int)
    for steps, vectors in zip(table.steps, table.vectors, strict=True):
        lane = np.zeros_like(total)
        for k, step in enumerate(steps):
            mask = vectors[group.steps + k - kept].astype(np.uint8) if k >= kept else 0
            assert np.isin(mask, (0, top)).all()
            pair = ((codes[step] ^ mask) * vectors[k].astype(int)).sum(axis=1)
            lane += np.clip(pair, INT16.min, INT16.max)
        assert (np.clip(lane, INT16.min, INT16.max) == lane).all()
        total += lane
    return total


@given(bits=st.integers(1, 8), size=st.integers(1, 127), seed=st.integers(0, 999))
def test_entries_add_up_to_the_layer_whatever_the_codes(bits: int, size: int, seed: int) -> None:
    rng, top = np.random.default_rng(seed), (1 << bits) - 1
    weights = weights_of(rng, size)
    found = group_tables(weights, top)
    for codes in (rng.integers(0, top + 1, (21, 2)), rng.choice([0, top], (21, 2))):
        for block, forms in zip(weights, found, strict=True):
            whole = zip(forms, STEP_GROUPS, strict=True)
            total = sum(sums(table, group, codes, top) + table.constant for table, group in whole)
            np.testing.assert_array_equal(total, (codes[:, None] * block).sum(axis=(0, 2)))


@given(size=st.integers(1, 127), seed=st.integers(0, 999))
def test_no_codes_reach_beyond_int16(size: int, seed: int) -> None:
    weights = weights_of(np.random.default_rng(seed), size)
    for forms in group_tables(weights, 255):
        for table, group in zip(forms, STEP_GROUPS, strict=True):
            signed = table.vectors[:, : group.steps].astype(int)
            assert 255 * np.maximum(signed, 0).sum(axis=(1, 3)).max(initial=0) <= INT16.max
            assert 255 * np.minimum(signed, 0).sum(axis=(1, 3)).min(initial=0) >= INT16.min


def test_blocks_have_the_same_entries_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(np.random.default_rng(0), 127, blocks=5)
    whole = group_tables(weights, 255)
    monkeypatch.setattr(pairing, "TOGETHER", weights[0].size)
    for forms, again in zip(whole, group_tables(weights, 255), strict=True):
        for table, same in zip(forms, again, strict=True):
            np.testing.assert_array_equal(table.steps, same.steps)
            np.testing.assert_array_equal(table.vectors, same.vectors)
            np.testing.assert_array_equal(table.constant, same.constant)


def counts(weights: np.ndarray) -> list[int]:
    """Return the entries of each form in the only block."""
    (forms,) = group_tables(weights, 255)
    return [len(table.steps) for table in forms]


def test_codes_are_flipped_only_where_a_lane_would_overflow() -> None:
    weights = np.full((1, 1, 8, 2), 64, np.int16)  # 255 * 128 = 32640
    assert counts(weights) == [0, 0, 0, 1, 0]
    weights[0, 0, 3, 1] = 65
    assert counts(weights) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("largest", "expected"), [(32, 0), (64, 1)])
def test_steps_of_small_weights_are_paired(largest: int, expected: int) -> None:
    weights = np.full((1, 18, 8, 2), largest, np.int16)
    assert counts(weights) == [9 * (group == expected) for group in range(len(STEP_GROUPS))]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((100, 28), (-100, -28), [1, 0, 0, 0, 0]),
        ((100, 28), (10, 20), [0, 1, 0, 0, 0]),  # 128 and -30
        ((100, 90), (20, 30), [0, 0, 1, 0, 0]),  # 100 + 20 and -90 - 30
        ((100, 40), (60, 60), [0, 0, 0, 1, 1]),  # no two halves
    ],
)
def test_pairs_take_as_few_flips_as_they_need(
    first: tuple[int, int], second: tuple[int, int], expected: list[int]
) -> None:
    weights = np.zeros((1, 2, 8, 2), np.int16)
    weights[0, 0, 5], weights[0, 1, 5] = first, second
    assert counts(weights) == expected


@pytest.mark.parametrize(("inputs", "alone", "unflipped"), [(64, 0.6, 0.0), (512, 0.05, 0.4)])
def test_most_steps_of_bell_shaped_weights_are_paired(
    inputs: int, alone: float, unflipped: float
) -> None:
    bell = np.random.default_rng(0).normal(size=(16, 8, inputs))  # of blocks of eight outputs
    codes = (127 * bell / np.abs(bell).max(axis=-1, keepdims=True)).round().astype(np.int16)
    lanes = codes.reshape(16, 8, inputs // 4, 2, 2).transpose(0, 2, 1, 3, 4)
    found = group_tables(lanes.reshape(16, inputs // 4, 16, 2), 255)
    steps = np.array([[table.steps.size for table in forms] for forms in found]).sum(axis=0)
    share = steps / steps.sum()
    assert (
        share[[STEP_GROUPS.index(StepGroup(1, 0)), STEP_GROUPS.index(StepGroup(1, 1))]].sum()
        < alone
    )
    assert share[STEP_GROUPS.index(StepGroup(2, 0))] >= unflipped
