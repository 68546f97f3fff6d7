"""Pairs of steps where lanes are pixels: exact for all codes, complete, and few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.cpu.direct import pairing
from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_search import (
    MOST_UNPAIRED,
    EntryTable,
    entry_table,
)

INT16 = np.iinfo(np.int16)


def weights_of(rng: np.random.Generator, size: int, pairs: int = 3, steps: int = 13) -> np.ndarray:
    """Return bell-shaped weights with a few large ones, int8 [pairs, 2, steps, 4]."""
    shape = (pairs, 2, steps, 4)
    bell = rng.normal(0, size / 3, shape).round()
    large = rng.choice([-size, size], shape)
    return np.clip(np.where(rng.random(shape) < 0.05, large, bell), -size, size).astype(np.int8)


def bell_shaped(inputs: int, outputs: int = 32) -> np.ndarray:
    """Return weights whose largest of each output is 127, int8 [pairs, 2, steps, 4]."""
    bell = np.random.default_rng(0).normal(size=(outputs, inputs))
    codes = (127 * bell / np.abs(bell).max(axis=-1, keepdims=True)).round()
    return codes.astype(np.int8).reshape(outputs // 2, 2, inputs // 4, 4)


def sums(found: EntryTable, codes: np.ndarray) -> np.ndarray:
    """Return what the instructions add for codes [steps, 4]: [pairs, outputs]."""
    flipped = codes[found.steps] ^ found.masks[:, None]
    products = flipped[:, :, None] * found.weights.astype(int)
    halves = products.reshape(*products.shape[:3], 2, 2).sum(axis=-1)
    assert (np.clip(halves, INT16.min, INT16.max) == halves).all()  # vpmaddubsw
    lanes = halves.sum(axis=1)
    assert (np.clip(lanes, INT16.min, INT16.max) == lanes).all()  # vpaddw
    total = found.constant.copy()
    np.add.at(total, pairs_of(found), lanes.sum(axis=-1))
    return total


def pairs_of(found: EntryTable) -> np.ndarray:
    """Return the pair of outputs of each entry."""
    counts = np.diff(found.offsets[::2])
    return np.repeat(np.arange(len(counts)), counts)


@given(bits=st.integers(1, 8), size=st.integers(1, 127), seed=st.integers(0, 999))
def test_entries_add_up_to_the_layer_whatever_the_codes(bits: int, size: int, seed: int) -> None:
    rng, top = np.random.default_rng(seed), (1 << bits) - 1
    weights = weights_of(rng, size)
    found = entry_table(weights, top)
    for codes in (rng.integers(0, top + 1, (13, 4)), rng.choice([0, top], (13, 4))):
        expected = (codes * weights.astype(int)).sum(axis=(2, 3))
        np.testing.assert_array_equal(sums(found, codes), expected)


@given(size=st.integers(1, 127), seed=st.integers(0, 999))
def test_no_codes_reach_beyond_int16(size: int, seed: int) -> None:
    found = entry_table(weights_of(np.random.default_rng(seed), size), 255)
    halves = found.weights.astype(int).reshape(-1, 2, 2, 2, 2)  # entry, step, output, half, code
    assert 255 * np.maximum(halves, 0).sum(axis=(1, 4)).max() <= INT16.max
    assert 255 * np.minimum(halves, 0).sum(axis=(1, 4)).min() >= INT16.min


@given(size=st.integers(1, 127), seed=st.integers(0, 999))
def test_only_the_later_entries_of_a_pair_have_masks(size: int, seed: int) -> None:
    found = entry_table(weights_of(np.random.default_rng(seed), size), 255)
    masked = np.repeat(np.arange(len(found.offsets) - 1) % 2, np.diff(found.offsets))
    np.testing.assert_array_equal(found.masks.any(axis=1), masked)
    assert set(np.unique(found.masks[:, ::2])) <= {0, 255}
    assert not found.masks[:, 1::2].any()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((100, 28), (-100, -28), (1, 0)),  # 128 and -128
        ((100, 20), (20, 10), (0, 1)),  # 150 and 0, or flipped 30 and -120
        ((100, 28), (-100, 28), (2, 0)),  # 156 and -100 either way: alone
        ((127, 127), (127, 127), (0, 2)),  # alone, and flipped
    ],
)
def test_an_entry_has_a_mask_only_if_it_needs_one(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[int, int]
) -> None:
    weights = np.zeros((1, 2, 2, 4), np.int8)
    weights[0, 0, 0, :2], weights[0, 0, 1, :2] = first, second
    assert tuple(np.diff(entry_table(weights, 255).offsets)) == expected


@pytest.mark.parametrize("steps", [MOST_UNPAIRED, 2 * MOST_UNPAIRED])
def test_steps_that_all_stay_alone(steps: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.choice([-127, 127], (2, 2, steps, 4)).astype(np.int8)
    found = entry_table(weights, 255)
    codes = rng.integers(0, 256, (steps, 4))
    np.testing.assert_array_equal(sums(found, codes), (codes * weights.astype(int)).sum((2, 3)))
    assert len(found.weights) <= 2 * 2 * steps


def test_pairs_have_the_same_entries_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(np.random.default_rng(0), 127, pairs=7)
    whole = entry_table(weights, 255)
    monkeypatch.setattr(pairing, "TOGETHER", 2 * weights[0].size)
    parts = entry_table(weights, 255)
    for name in ("weights", "masks", "steps", "offsets", "constant"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_a_step_on_which_outputs_disagree_is_taken_once_for_each() -> None:
    weights = np.zeros((1, 2, 1, 4), np.int8)
    weights[0, :, 0, :2] = ((127, 127), (127, -127))  # must be flipped, and must not be
    found = entry_table(weights, 255)
    assert tuple(np.diff(found.offsets)) == (1, 1)
    np.testing.assert_array_equal(found.weights[0, 0, :, :2], ((0, 0), (127, -127)))
    np.testing.assert_array_equal(found.weights[1, 0, :, :2], ((-127, 127), (0, 0)))


@pytest.mark.parametrize(("inputs", "more", "unmasked"), [(64, 1.4, 0.5), (512, 1.02, 0.8)])
def test_most_steps_of_bell_shaped_weights_are_paired(
    inputs: int, more: float, unmasked: float
) -> None:
    found = entry_table(bell_shaped(inputs), 255)
    counts = np.diff(found.offsets).reshape(-1, 2).sum(axis=0)
    assert counts.sum() <= more * 16 * inputs / 8
    assert counts[0] >= unmasked * counts.sum()
