"""Batches are the same for one seed, shared among processes, and made of checked images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gmpq.data import Preprocessing
from gmpq.errors import CalibrationError
from gmpq.search.distributed import ALONE, Ranks
from gmpq.search.samples import (
    Augmentation,
    augment,
    check_labels,
    open_samples,
    plain_batches,
    training_batches,
)
from tests.search.gmpq.small import SHAPE, pictures, samples, write_pictures

HOW = Preprocessing(SHAPE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PLAIN = Augmentation(0, flip=False)


def test_crops_are_windows_of_the_padded_image() -> None:
    images = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4).repeat(200, 1, 1, 1)
    black = torch.full((1, 1, 1), -2.0)
    found = augment(images, Augmentation(1, flip=True), black, torch.Generator().manual_seed(0))
    padded = torch.full((6, 6), -2.0)
    padded[1:5, 1:5] = images[0, 0]
    windows = [padded[y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
    expected = {tuple(w.flatten().tolist()) for v in windows for w in (v, v.flip(1))}
    assert {tuple(image.flatten().tolist()) for image in found} == expected


def test_black_is_what_the_network_reads_for_it() -> None:
    assert samples().black().flatten().tolist() == [0, 0, 0]


def test_the_same_seed_gives_the_same_batches() -> None:
    def batches(*seed: int) -> list[torch.Tensor]:
        found = training_batches(samples(), 16, Augmentation(), (seed[0], seed[1]), ALONE)
        return [images for images, _ in found]

    assert all(map(torch.equal, batches(0, 1), batches(0, 1)))
    assert not any(map(torch.equal, batches(0, 1), batches(0, 2)))
    assert not any(map(torch.equal, batches(0, 1), batches(1, 1)))


def test_processes_share_the_batches() -> None:
    alone = list(training_batches(samples(), 16, PLAIN, (0, 0), ALONE))
    shared = [list(training_batches(samples(), 16, PLAIN, (0, 0), Ranks(r, 2))) for r in (0, 1)]
    assert len(alone) == 3
    for (images, labels), *parts in zip(alone, *shared, strict=True):
        assert torch.equal(images, torch.cat([part for part, _ in parts]))
        assert torch.equal(labels, torch.cat([part for _, part in parts]))


def test_fewer_images_than_a_batch() -> None:
    ((images, labels),) = training_batches(samples(9), 16, PLAIN, (0, 0), ALONE)
    assert (len(images), len(labels)) == (9, 9)


def test_plain_batches_hold_all_images() -> None:
    assert [len(labels) for _, labels in plain_batches(samples(20), 8)] == [8, 8, 4]


def test_an_archive_and_folders_are_the_same(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data.npz", 12)
    images, labels = pictures(12)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "folders" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:02}.png")
    archive = open_samples([str(tmp_path / "data.npz")], HOW)
    folders = open_samples([str(tmp_path / "folders")], HOW)
    order = np.argsort(labels, kind="stable").tolist()
    assert torch.equal(folders.labels, archive.labels[order])
    assert torch.equal(folders.read(range(12))[0], archive.read(order)[0])
    assert folders.black().flatten().tolist() == [-2, -2, -2]


def test_a_limit_takes_images_of_all_classes(tmp_path: Path) -> None:
    labels = np.arange(30) // 10
    images = np.arange(30, dtype=np.float32)[:, None, None, None] * np.ones(SHAPE, np.float32)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    found = open_samples([str(tmp_path / "data.npz")], HOW, limit=6)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.read([1])[0].unique().tolist() == [5]


def array(name: str, **fields: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / name, **fields)
        return folder / name

    return write


def photographs(*sizes: tuple[int, int]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for index, size in enumerate(sizes):
            (folder / f"class{index}").mkdir()
            Image.new("RGB", size).save(folder / f"class{index}" / "a.png")
        return folder

    return write


UINT8 = np.zeros((4, 12, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(photographs(), "holds no images", id="empty-folder"),
        pytest.param(array("a.npz", images=UINT8[:0], labels=[]), "holds no images", id="empty"),
        pytest.param(array("a.npz", images=UINT8), "4 of 4 images have no label", id="unlabelled"),
        pytest.param(
            array("a.npz", images=UINT8, labels=[1, 1, 1, 1]),
            "all 4 images are of class 1: training needs at least two",
            id="one-class",
        ),
        pytest.param(
            array("a.npz", images=UINT8, labels=[0, 1, -1, 2]), "1 of 4 images", id="negative"
        ),
        pytest.param(
            array("a.npz", images=np.zeros((4, 28, 30, 3), np.uint8), labels=[0, 1, 0, 1]),
            "a.npz: 28x30 pixels, the network reads 12x12: give --resize 12",
            id="size-of-arrays",
        ),
        pytest.param(
            array("a.npz", images=np.zeros((4, 3, 9, 9), np.float32), labels=[0, 1, 0, 1]),
            r"images are float32 \[4, 3, 9, 9\], the network needs",
            id="size-of-floats",
        ),
        pytest.param(
            photographs((12, 12), (12, 9)), "class1/a.png: 9x12 pixels", id="size-of-photographs"
        ),
    ],
)
def test_images_that_cannot_be_used(
    tmp_path: Path, write: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        open_samples([str(write(tmp_path))], HOW)


def test_labels_outside_the_network() -> None:
    with pytest.raises(CalibrationError, match=r"here: label 2 of image \d+ is outside 0 to 1"):
        check_labels(samples(), 2, "here")
