"""Photographs and arrays become network inputs; wrong data is refused in one line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.inputs.images import Preprocessing, find_images, labels_of, preprocess
from gmpq.policy import InputSpec

SHAPE = (1, 3, 8, 8)
HOW = Preprocessing.of(SHAPE, None)


def photograph(path: Path, width: int = 12, height: int = 10, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_pixels_become_scaled_channels() -> None:
    how = Preprocessing.of((1, 3, 2, 2), InputSpec(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0)))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    found = preprocess(Image.fromarray(pixels), how)
    expected = (pixels / 255 - np.array([0.5, 0.25, 0.0])) / np.array([0.5, 1.0, 2.0])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), rtol=1e-6)


def test_the_centre_is_cut_from_the_resized_photograph() -> None:
    how = Preprocessing.of((1, 3, 4, 4), InputSpec(resize=6))
    pixels = np.zeros((6, 12, 3), np.uint8)
    pixels[:, 4:8] = 255  # the centre, when nothing is resized
    assert (preprocess(Image.fromarray(pixels), how) == 1).all()


def test_a_photograph_of_the_right_size_stays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    expected = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(preprocess(Image.fromarray(pixels), HOW), expected)


def test_grey_photographs_serve_both_kinds_of_network() -> None:
    grey = Image.fromarray(np.full((8, 8), 51, np.uint8))
    assert preprocess(grey, HOW).shape == (3, 8, 8)
    single = preprocess(grey, Preprocessing.of((1, 1, 8, 8), None))
    np.testing.assert_allclose(single, np.full((1, 8, 8), 0.2, np.float32))


def test_folders_are_read_recursively_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["b/x.png", "a/z.PNG", "a/y.jpg", "c.txt", "a/.hidden.png"]
    for seed, name in enumerate(names[:3]):
        photograph(tmp_path / name, seed=seed)
    (tmp_path / "c.txt").write_text("no photograph", "utf-8")
    (tmp_path / "a" / ".hidden.png").write_text("no photograph", "utf-8")
    images = find_images([str(tmp_path)], HOW)
    expected = [tmp_path / name for name in ("a/y.jpg", "a/z.PNG", "b/x.png")]
    assert list(images.items) == expected
    assert images.labels.tolist() == [0, 0, 1]
    assert [len(batch) for batch in images.batches(2)] == [2, 1]
    assert len(find_images([str(tmp_path)], HOW, limit=1).items) == 1


def test_labels_come_from_names_of_a_single_folder() -> None:
    paths = [Path("imagenet_00_243.jpg"), Path("imagenet_01_7.jpg"), Path("other.jpg")]
    assert labels_of(paths).tolist() == [243, 7, -1]
    assert labels_of([Path("ILSVRC2012_val_00000293.JPEG")]).tolist() == [-1]


def test_patterns_and_packages_name_photographs(tmp_path: Path) -> None:
    for name in ("imagenet_00_5.png", "cifar_00_1.png"):
        photograph(tmp_path / name)
    assert find_images([str(tmp_path / "imagenet_*")], HOW).labels.tolist() == [5]
    with pytest.raises(CalibrationError, match="'no_such_package' is not installed"):
        find_images(["package:no_such_package/data"], HOW)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_float_arrays_are_taken_as_they_are(tmp_path: Path, suffix: str) -> None:
    inputs = np.random.default_rng(0).normal(size=(5, *SHAPE[1:])).astype(np.float32)
    path = tmp_path / f"inputs.{suffix}"
    if suffix == "npy":
        np.save(path, inputs)
    else:
        np.savez(path, images=inputs, labels=np.arange(5))
    images = find_images([str(path)], HOW)
    np.testing.assert_array_equal(np.concatenate(list(images.batches(2))), inputs)
    assert images.labels.tolist() == ([-1] * 5 if suffix == "npy" else [0, 1, 2, 3, 4])


def test_byte_arrays_are_photographs(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    (batch,) = find_images([str(tmp_path / "x.npy")], HOW).batches(9)
    expected = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch, expected)


FINE = np.zeros((2, *SHAPE[1:]), np.float32)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        pytest.param(np.zeros((2, 3, 9, 8), np.float32), "[2, 3, 9, 8]", id="float-shape"),
        pytest.param(np.zeros((2, 3, 9, 8), np.float32), "needs float32 [N, 3, 8, 8]", id="needed"),
        pytest.param(np.zeros((3, 8, 8), np.float32), "[3, 8, 8]", id="no-batch"),
        pytest.param(np.zeros((2, 9, 9, 1), np.uint8), "needs uint8 [N, H, W, 3]", id="channels"),
        pytest.param(np.zeros((2, 3, 8, 8), np.int32), "int32", id="integers"),
        pytest.param(np.zeros((0, 3, 8, 8), np.float32), "holds no images", id="empty"),
        pytest.param(np.full((1, 3, 8, 8), np.nan, np.float32), "NaN or infinity", id="nan"),
        pytest.param(np.full((1, 3, 8, 8), -1e300), "x.npy: holds 1e+300, beyond", id="overflow"),
        pytest.param(np.full((1, 3, 8, 8), np.inf), "NaN or infinity", id="infinity"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, images: NDArray[Any], message: str) -> None:
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(CalibrationError) as caught:
        find_images([str(tmp_path / "x.npy")], HOW)
    assert message in str(caught.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    np.savez(tmp_path / "two.npz", a=FINE, b=FINE)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("images", "no array")
    np.savez(tmp_path / "labels.npz", images=FINE, labels=np.zeros(3, np.int64))
    for name, message in (
        ("pickle.npy", "not a readable array"),
        ("torn.npz", "not a readable array"),
        ("text.npz", "not a readable array: images is no .npy"),
        ("two.npz", 'holds a, b: name one array "images"'),
        ("labels.npz", r"labels are int64 \[3\], whole numbers \[2\]"),
        ("missing", "no such file or folder"),
    ):
        with pytest.raises(CalibrationError, match=message):
            find_images([str(tmp_path / name)], HOW)
    with pytest.raises(CalibrationError, match=r"torn\.jpg: not a readable image"):
        list(find_images([str(tmp_path / "torn.jpg")], HOW).batches(1))


def test_nothing_found_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="holds no images"):
        find_images([str(tmp_path)], HOW)
    with pytest.raises(CalibrationError, match="holds no images"):
        find_images([str(tmp_path / "x*")], HOW)


def test_relative_locations_start_at_the_base(tmp_path: Path) -> None:
    photograph(tmp_path / "some" / "x.png")
    assert len(find_images(["some"], HOW, base=tmp_path).items) == 1
    assert len(find_images(["some/*.png"], HOW, base=tmp_path).items) == 1
    assert len(find_images([str(tmp_path / "some")], HOW, base=Path("/nowhere")).items) == 1


@pytest.mark.parametrize(
    "location", ["package:__main__/x", "~no_such_user/x", "**x", "a\0b", "x" * 300], ids=repr
)
def test_strange_locations(tmp_path: Path, location: str) -> None:
    with pytest.raises((CalibrationError, OSError)) as caught:
        find_images([location], HOW, base=tmp_path)
    assert "\n" not in str(caught.value)


def test_photographs_need_one_or_three_channels(tmp_path: Path) -> None:
    photograph(tmp_path / "x.png")
    with pytest.raises(CalibrationError, match="the network reads 4"):
        find_images([str(tmp_path)], Preprocessing.of((1, 4, 8, 8), None))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(InputSpec(mean=(0.5,)), "mean: 1 numbers for 3 channels", id="mean"),
        pytest.param(InputSpec(std=(0.5,) * 4), "std: 4 numbers for 3 channels", id="std"),
        pytest.param(InputSpec(mean=(0.4, 123.675, 0.4)), "123.675 is above 1, which", id="255"),
        pytest.param(
            InputSpec(mean=(-1e300,) * 3), "mean -1e\\+300 and std 1 make", id="mean-large"
        ),
        pytest.param(InputSpec(std=(1, 1e-60, 1)), "mean 0 and std 1e-60 make", id="std-zero"),
        pytest.param(InputSpec(std=(1e-40,) * 3), "not finite in float32", id="std-subnormal"),
        pytest.param(InputSpec(resize=7), "7 pixels are less than the input's 8x8", id="resize"),
    ],
)
def test_preprocessing_that_does_not_fit_is_refused(spec: InputSpec, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Preprocessing.of(SHAPE, spec)
