"""Batches are the same for one seed, shared among processes, and hold every image once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gmpq.inputs.images import Preprocessing
from gmpq.training import batches
from gmpq.training.augment import Augmentation, Draw
from gmpq.training.batches import plain_batches, steps_per_epoch, training_batches, whole_batch
from gmpq.training.data import Labelled

HOW = Preprocessing((3, 6, 6), (0.0,) * 3, (1.0,) * 3)


def numbered(count: int) -> Labelled:
    images = np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones(
        (3, 6, 6), np.float32
    )
    return Labelled("here", list(images), np.arange(count), HOW)


def draw(count: int = 20, seed: int = 0, epoch: int = 0) -> Draw:
    return Draw(numbered(count), Augmentation(crop=False, flip=False), seed, epoch)


def labels(*batch: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
    return [label for _, found in batch for label in found.tolist()]


def test_an_epoch_shows_whole_batches_in_its_own_order() -> None:
    first = list(training_batches(draw(), 8))
    assert [len(found) for _, found in first] == [8, 8]
    assert len(set(labels(*first))) == 16
    assert labels(*first) == labels(*training_batches(draw(), 8))
    assert labels(*first) != labels(*training_batches(draw(epoch=1), 8))
    assert labels(*first) != labels(*training_batches(draw(seed=1), 8))
    for images, found in first:
        assert images.amax((1, 2, 3)).tolist() == found.tolist()


def test_some_batches_read_ahead() -> None:
    plain = labels(*training_batches(draw(), 4, 3))
    assert plain == labels(*training_batches(draw(), 4, 3, workers=2))
    assert len(plain) == 12


@pytest.mark.parametrize("batch", [8, 9, 64])
def test_processes_share_the_batches(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(batches, "world_size", lambda: 2)
    shared = []
    for number in range(2):
        monkeypatch.setattr(batches, "rank", lambda number=number: number)
        shared.append([found.tolist() for _, found in training_batches(draw(), batch)])
    whole = whole_batch(20, batch)
    assert whole % 2 == 0
    monkeypatch.undo()
    expected = [found.tolist() for _, found in training_batches(draw(), whole)]
    assert [one + two for one, two in zip(*shared, strict=True)] == expected


def test_fewer_images_than_a_batch() -> None:
    assert (whole_batch(5, 64), steps_per_epoch(5, 64)) == (5, 1)
    assert sorted(labels(*training_batches(draw(5), 64))) == [0, 1, 2, 3, 4]


def test_plain_batches_hold_all_images() -> None:
    found = list(plain_batches(numbered(20).inputs(), 8))
    assert [len(each) for _, each in found] == [8, 8, 4]
    assert labels(*found) == list(range(20))
