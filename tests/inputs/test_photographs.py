"""Photographs in files: which are found, and what their pixels become."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.inputs import photographs
from gmpq.inputs.images import Preprocessing, find_images, preprocess
from gmpq.inputs.photographs import find_photographs, open_photograph

HOW = Preprocessing.of((1, 3, 8, 8), None)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)


def saved(path: Path, image: Image.Image | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.fromarray(PIXELS)).save(path)
    return path


def pixels(path: Path) -> list[object]:
    found: list[object] = np.asarray(open_photograph(path)).tolist()
    return found


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_the_upper_eight_bits_of_gray_count(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"gray{suffix}", Image.fromarray(RAMP))
    assert pixels(path) == (RAMP >> 8).tolist()
    values = preprocess(open_photograph(path), HOW)
    assert (values[0, 0, 0], values[0, 7, 7]) == (0.0, 1.0)


def test_pixels_without_a_white_are_refused(tmp_path: Path) -> None:
    for name, kind in (("float.tiff", np.float32), ("whole.tiff", np.int32)):
        path = saved(tmp_path / name, Image.fromarray(RAMP.astype(kind)))
        with pytest.raises(CalibrationError, match=r"tiff: not a readable image: .* save 8 or 16"):
            open_photograph(path)


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tif", ".TIFF", ".gif", ".ppm", ".jfif"])
def test_formats_that_folders_are_searched_for(tmp_path: Path, suffix: str) -> None:
    saved(tmp_path / f"x{suffix}")
    (batch,) = find_images([str(tmp_path)], HOW).batches(1)
    assert batch.shape == (1, 3, 8, 8)


def test_transparency_is_dropped(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS).quantize(16)
    palette.info["transparency"] = bytes(range(16))
    path = saved(tmp_path / "palette.png", palette)
    assert pixels(path) == np.asarray(palette.convert("RGBA"))[..., :3].tolist()
    rgba = np.dstack([PIXELS, np.zeros((8, 8), np.uint8)])
    assert pixels(saved(tmp_path / "rgba.png", Image.fromarray(rgba))) == PIXELS.tolist()


def test_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(PIXELS).save(tmp_path / "x.png", exif=exif)
    assert pixels(tmp_path / "x.png") == PIXELS.tolist()


def test_other_files_are_counted(tmp_path: Path) -> None:
    saved(tmp_path / "a" / "x.png")
    for name in ("notes.txt", "a/x.txt", "a/y.HEIC", "LICENSE", ".hidden.txt", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")
    images = find_images([str(tmp_path)], HOW)
    counted = "left out what is no photograph: .heic 1, .txt 2, without suffix 1"
    assert images.ignored == (f"{tmp_path}: {counted}",)
    (tmp_path / "a" / "x.png").unlink()
    with pytest.raises(CalibrationError, match=r"holds no images: .*; .*\.heic 1, \.txt 2"):
        find_images([str(tmp_path)], HOW)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    saved(tmp_path / "elsewhere" / "x.png")
    for name in ("cats", "dogs"):
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / "all" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "all")
    found = find_photographs(tmp_path / "all").paths
    assert {path.relative_to(tmp_path / "all").parts[0] for path in found} == {"cats", "dogs"}
    assert len(found) <= 4


def test_trees_of_links_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "MOST_FOLDERS", 50)
    for name in "abcdef":
        (tmp_path / name).mkdir()
        for other in "abcdef":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    with pytest.raises(CalibrationError, match="more than 50 folders: is there a circle of links"):
        find_photographs(tmp_path)


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 60_000)], ids=str)
def test_long_thin_photographs_are_refused_before_they_are_resized(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = saved(tmp_path / "thin.png", Image.new("L", size))
    how = Preprocessing((3, 224, 224), (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(CalibrationError, match=r"thin\.png: .* pixels would be resized to"):
        list(find_images([str(path)], how).batches(1))


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(CalibrationError, match=r"x\.png: is a FIFO"):
        open_photograph(tmp_path / "x.png")
    with pytest.raises(CalibrationError, match="is a device"):
        open_photograph(Path("/dev/zero"))


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(CalibrationError, match="not a readable image: cannot identify"):
        open_photograph(tmp_path / "x.png")


@pytest.mark.filterwarnings("ignore")  # Pillow's, on damaged metadata
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff", ".gif", ".ppm"])
def test_damaged_photographs(tmp_path: Path, suffix: str) -> None:
    whole = saved(tmp_path / f"x{suffix}").read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(damaged(whole, draw))
        with suppress(CalibrationError):  # what is damaged may be a pixel
            preprocess(open_photograph(path), HOW)


def damaged(whole: bytes, draw: random.Random) -> bytes:
    content = bytearray(whole[: draw.choice((len(whole), draw.randrange(1, len(whole))))])
    for _ in range(draw.randrange(1, 6)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def _npy(path: Path) -> None:
    np.save(path, np.zeros((2, 3, 8, 8), np.float32))


def _npz(path: Path) -> None:
    np.savez_compressed(path, images=np.zeros((2, 3, 8, 8), np.float32), labels=np.arange(2))


@pytest.mark.filterwarnings("ignore")  # numpy's, on damaged headers
@pytest.mark.parametrize(("suffix", "write"), [(".npy", _npy), (".npz", _npz)])
def test_damaged_arrays(tmp_path: Path, suffix: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / f"x{suffix}")
    whole, draw = (tmp_path / f"x{suffix}").read_bytes(), random.Random(0)
    for _ in range(200):
        (tmp_path / f"damaged{suffix}").write_bytes(damaged(whole, draw))
        with suppress(CalibrationError):
            find_images([str(tmp_path / f"damaged{suffix}")], HOW)
