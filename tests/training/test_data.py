"""Labelled images: folders, arrays, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmpq.errors import CalibrationError, GmpqError, TrainingError
from gmpq.inputs.images import Preprocessing
from gmpq.training.augment import Augmentation, Draw
from gmpq.training.data import Labelled, check_classes, check_labels, open_all, open_labelled, split
from tests.qat.conftest import separable

HOW = Preprocessing((3, 12, 12), (0.5,) * 3, (0.5,) * 3)


def draw(data: Labelled, epoch: int = 0, *, crop: bool = True, flip: bool = True) -> Draw:
    return Draw(data, Augmentation(crop, flip), 0, epoch)


def folders(path: Path, *names: str, size: int = 20) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (path / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (size, size + 4, 3), np.uint8)
            Image.fromarray(pixels).save(path / name / f"{index}.png")
    return path


def arrays(path: Path, **changed: object) -> str:
    images, labels = separable(12)
    np.savez(path / "data.npz", **({"images": images, "labels": labels} | changed))  # type: ignore[arg-type]
    return str(path / "data.npz")


def test_folders_are_classes_by_name(tmp_path: Path) -> None:
    train = open_labelled(str(folders(tmp_path / "train", "ant", "bee", "cat")), HOW)
    assert train.classes == ("ant", "bee", "cat")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    val = open_labelled(str(folders(tmp_path / "val", "cat", "ant")), HOW, train)
    assert val.labels.tolist() == [0, 0, 0, 2, 2, 2]


def test_other_files_are_counted(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", "ant", "bee")
    (train / "bee" / "notes.txt").write_text("", "utf-8")
    counted = f"{train}/bee: left out what is no photograph: .txt 1"
    assert open_labelled(str(train), HOW).ignored == (counted,)
    assert open_all([str(train), str(train)], HOW).ignored == (counted, counted)


def test_a_folder_that_is_no_class_is_told(tmp_path: Path) -> None:
    train = open_labelled(str(folders(tmp_path / "train", "ant", "bee")), HOW)
    with pytest.raises(TrainingError, match=r"bees: is no class .* \(did you mean bee\?\)"):
        open_labelled(str(folders(tmp_path / "val", "bees")), HOW, train)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        pytest.param(
            lambda p: str(p), TrainingError, "holds no images: put the photographs", id="empty"
        ),
        pytest.param(
            lambda p: str(folders(p / "one", "ant")),
            TrainingError,
            "all 3 images have label 0: training needs at least two classes",
            id="one-class",
        ),
        pytest.param(
            lambda p: arrays(p, labels=np.arange(12)),
            TrainingError,
            "image 4 has label 4: the network has 4 outputs, labels go from 0 to 3",
            id="label",
        ),
        pytest.param(
            lambda p: arrays(p, labels=np.full(12, -1)), TrainingError, "has no label", id="none"
        ),
        pytest.param(
            lambda p: arrays(p, images=np.zeros((12, 3, 9, 12), np.float32)),
            CalibrationError,
            r"images are float32 \[12, 3, 9, 12\], the network needs float32 \[N, 3, 12, 12\]",
            id="size",
        ),
        pytest.param(
            lambda p: "torchvision:CIFAR11:/data", TrainingError, "torchvision", id="torchvision"
        ),
    ],
)
def test_data_that_cannot_train_is_told(
    tmp_path: Path, make: Callable[[Path], str], kind: type[GmpqError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        _read(make(tmp_path))


def _read(location: str) -> None:
    data = open_labelled(location, HOW)
    check_labels(data, 4)
    check_classes(data)


def test_epochs_draw_anew_and_repeat(tmp_path: Path) -> None:
    data = open_labelled(arrays(tmp_path), HOW)
    first, again, second = (draw(data, epoch) for epoch in (0, 0, 1))
    assert sorted(first.order()) == list(range(12))
    assert np.array_equal(first.order(), again.order())
    assert not np.array_equal(first.order(), second.order())
    assert np.array_equal(first.batch([3, 5])[0], again.batch([3, 5])[0])
    assert not np.array_equal(first.batch([3, 5])[0], second.batch([3, 5])[0])
    assert first.batch([3, 5])[1].tolist() == data.labels[[3, 5]].tolist()


@pytest.mark.parametrize("kind", ["pixels", "inputs", "files"])
def test_without_augmentation_training_sees_what_compiling_sees(tmp_path: Path, kind: str) -> None:
    inputs = np.random.default_rng(0).normal(size=(12, 3, 12, 12)).astype(np.float32)
    location = {
        "pixels": lambda: arrays(tmp_path),
        "inputs": lambda: arrays(tmp_path, images=inputs),
        "files": lambda: str(folders(tmp_path, "ant", "bee")),
    }[kind]()
    data = open_labelled(location, HOW)
    (wanted,) = data.inputs().batches(len(data))
    found, _ = draw(data, crop=False, flip=False).batch(range(len(data)))
    assert np.array_equal(found, wanted)
    cropped, _ = draw(data).batch(range(len(data)))
    assert cropped.shape == wanted.shape


def test_a_flip_mirrors_columns(tmp_path: Path) -> None:
    data = open_labelled(arrays(tmp_path), HOW)
    plain, _ = draw(data, crop=False, flip=False).batch(range(12))
    flipped, _ = draw(data, crop=False).batch(range(12))
    mirrored = [np.array_equal(a, b[:, :, ::-1]) for a, b in zip(flipped, plain, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 0 < sum(mirrored) < 12


def test_several_locations_and_a_part_of_them(tmp_path: Path) -> None:
    first = folders(tmp_path / "one", "ant", "bee")
    second = folders(tmp_path / "two", "bee")
    data = open_all([str(first), str(second)], HOW)
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert data.spread(3).labels.tolist() == [0, 1, 1]
    assert len(data.spread(None)) == len(data.spread(99)) == 9


def test_a_split_shares_nothing(tmp_path: Path) -> None:
    data = open_labelled(arrays(tmp_path), HOW)
    train, val = split(data, 0.25, seed=0)
    assert (len(train), len(val)) == (9, 3)
    with pytest.raises(TrainingError, match="1 images cannot be split: give --val"):
        split(data.take(np.array([0])), 0.25, seed=0)
