from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from gmpq.accuracy.answers import Tally, same, tally

rng = np.random.default_rng(0)
SCORES = rng.permuted(np.arange(24, dtype=np.float32).reshape(3, 8), axis=1)
MASKS = rng.normal(size=(3, 2, 4, 4)).astype(np.float32)
ORDER = np.argsort(-SCORES, axis=1)


def counts(found: Tally) -> tuple[int | None, ...]:
    return found.first, found.first_five, found.agreeing


def test_labels_are_counted_by_rank() -> None:
    labels = np.array([ORDER[0, 0], ORDER[1, 4], ORDER[2, 5]])
    assert counts(tally((SCORES,), (SCORES,), labels, 0)) == (1, 2, 3)
    assert counts(tally((-SCORES,), (SCORES,), labels, 0)) == (0, 2, 0)


def test_images_without_a_label_only_agree() -> None:
    labels = np.array([-1, ORDER[1, 0], -1])
    assert counts(tally((SCORES,), (SCORES,), labels, 0)) == (1, 1, 3)
    assert counts(tally((SCORES,), (SCORES,), np.full(3, -1), 0)) == (None, None, 3)


def test_five_of_five_classes_mean_nothing() -> None:
    found = tally((SCORES[:, :5],), (SCORES[:, :5],), np.zeros(3, np.int64), 0)
    assert found.first_five is None


def test_what_has_no_classes_has_noise() -> None:
    found = tally((SCORES, MASKS * np.float32(0.9)), (SCORES, MASKS), np.full(3, -1), None)
    assert counts(found) == (None, None, None)
    assert found.sqnr_db == pytest.approx(20, abs=1e-4)


def test_tallies_add_up() -> None:
    labels, noisy = np.array([-1, 2, 3]), SCORES + np.float32(0.5)
    parts = [tally((noisy[i],), (SCORES[i],), labels[i], 0) for i in (slice(1), slice(1, 3))]
    whole = tally((noisy,), (SCORES,), labels, 0)
    assert astuple(parts[0] + parts[1]) == astuple(whole)


def test_the_same_numbers_are_found_by_image() -> None:
    other = MASKS.copy()
    other[1, 0, 0, 0] += 1
    assert same((SCORES, MASKS), (SCORES, other)).tolist() == [True, False, True]
