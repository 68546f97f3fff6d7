"""Images for calibration and evaluation: photographs and arrays, ready for the network.

A photograph is resized so that its shorter side has ``resize`` pixels, its centre is cut out, and
it becomes ``(pixel / 255 - mean) / std`` in RGB; unless ``resize`` is given, one that has the
input's size already stays as it is. Arrays come from .npy and .npz files: uint8 [N, H, W, C] are
photographs; float [N, C, H, W] are network inputs and are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.files.locations import expand, locate
from gmpq.inputs.arrays import IMAGES_KEY, LABELS_KEY, as_float32, read_fields
from gmpq.inputs.arrays import SUFFIXES as ARRAYS
from gmpq.inputs.photographs import find_photographs, open_photograph
from gmpq.ir import Shape
from gmpq.policy import InputSpec

Floats = NDArray[np.float32]

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LABELLED = re.compile(r"_(\d{1,5})$")  # longer numbers count the images of a data set
MOST_PIXELS = 1 << 27  # of a resized photograph, half a gigabyte
CENTRE_SHARE = 0.875  # of the shorter side that the centre keeps by default: 224 of 256


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a photograph becomes an input of the network."""

    shape: tuple[int, int, int]  # [C, H, W]
    mean: tuple[float, ...]  # [C], white is 1
    std: tuple[float, ...]  # [C]
    resize: int | None = None  # shorter side in pixels, before the centre is cut out
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, shape: Shape, spec: InputSpec | None) -> Preprocessing:
        """Return the preprocessing of ``spec`` for inputs of ``shape`` [N, C, H, W].

        Raises:
            CalibrationError: mean and std do not have one usable number per channel, or the
                resized photograph is smaller than the input.
        """
        spec = spec or InputSpec()
        _, channels, height, width = shape
        mean = spec.mean or (0.0,) * channels
        std = spec.std or (1.0,) * channels
        _check_numbers("mean", mean, channels)
        _check_numbers("std", std, channels)
        _check_range(mean, std)
        if spec.resize is not None and spec.resize < max(height, width):
            raise CalibrationError(
                f"model.input.resize: {spec.resize} pixels are less than the input's "
                f"{height}x{width}"
            )
        interpolation = spec.interpolation or "bilinear"
        return cls((channels, height, width), mean, std, spec.resize, interpolation)


def _check_numbers(key: str, numbers: tuple[float, ...], channels: int) -> None:
    if len(numbers) != channels:
        raise CalibrationError(f"model.input.{key}: {len(numbers)} numbers for {channels} channels")


def _check_range(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Pass numbers under which black and white stay finite in float32, and white can be 1."""
    if max(mean) > 1:
        raise CalibrationError(
            f"model.input.mean: {max(mean):g} is above 1, which is white: give means of 0..1 "
            "(divide mean and std by 255)"
        )
    with np.errstate(all="ignore"):
        black, white = (
            (np.float32(end) - np.array(mean, np.float32)) / np.array(std, np.float32)
            for end in (0, 1)
        )
    finite = np.isfinite(black) & np.isfinite(white)
    if not finite.all():
        channel = int(np.argmin(finite))
        raise CalibrationError(
            f"model.input: mean {mean[channel]:g} and std {std[channel]:g} make pixels that are "
            "not finite in float32: give those of the training"
        )


Item: TypeAlias = Path | Floats  # a photograph, or an input [C, H, W]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Network inputs, read when they are needed, with a label each; -1 where there is none."""

    items: tuple[Item, ...]
    labels: NDArray[np.int64]  # [N]
    preprocessing: Preprocessing
    ignored: tuple[str, ...] = ()  # one line for each folder that holds other files too

    def batches(self, size: int) -> Iterator[Floats]:
        """Yield the inputs in order, [size, C, H, W] at a time; the last batch may be smaller.

        Raises:
            CalibrationError: a photograph cannot be read.
        """
        for start in range(0, len(self.items), size):
            yield np.stack([self._input(item) for item in self.items[start : start + size]])

    def spread(self, count: int) -> Images:
        """Return at most ``count`` of the images, evenly spread: folders follow their classes."""
        total = len(self.items)
        if count >= total:
            return self
        kept = np.arange(count) * total // count
        return replace(self, items=tuple(self.items[i] for i in kept), labels=self.labels[kept])

    def _input(self, item: Item) -> Floats:
        if isinstance(item, Path):
            return preprocess(open_photograph(item), self.preprocessing, str(item))
        return item


def find_images(
    locations: Sequence[str],
    preprocessing: Preprocessing,
    limit: int | None = None,
    base: Path | None = None,
) -> Images:
    """Return the images at ``locations``: folders, files, patterns, or ``package:NAME/PATH``.

    A relative location starts at ``base``, the working directory unless given. Folders are searched
    for photographs recursively, in the order of their paths. The label of a
    photograph is the position of its folder among the sorted folders; in a single folder it is the
    number at the end of the name (``imagenet_07_243.jpg``), if every name has one.

    Raises:
        CalibrationError: a location is missing, an array unreadable, a shape wrong, a value not
            finite, or nothing was found.
    """
    where = base or Path()
    parts = [part for location in locations for part in _location(location, where, preprocessing)]
    items = tuple(item for part in parts for item in part.items)[:limit]
    ignored = tuple(line for part in parts for line in part.ignored)
    if not items:
        raise CalibrationError(
            f"{', '.join(locations) or 'no location'}: holds no images: give a folder of "
            "photographs (.jpg, .png, .webp, ...) or an array (.npy, .npz)"
            + "".join(f"; {line}" for line in ignored)
        )
    labels = np.concatenate([part.labels for part in parts])[:limit]
    return Images(items, labels, preprocessing, ignored)


def preprocess(image: Image.Image, how: Preprocessing, place: str = "photograph") -> Floats:
    """Return the network input [C, H, W] of a photograph, which ``place`` names.

    Raises:
        CalibrationError: it is so long and thin that resizing would fill the memory.
    """
    channels, height, width = how.shape
    centre = image.convert("L" if channels == 1 else "RGB")
    if how.resize is not None or centre.size != (width, height):
        centre = _centre(centre, how, place)
    pixels = np.asarray(centre, np.float32).reshape(height, width, channels) / np.float32(255)
    scaled = (pixels - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def labels_of(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Return the labels [N] of photographs by their folders, else by their names, else -1."""
    folders = sorted({path.parent for path in paths})
    if len(folders) > 1:
        return np.array([folders.index(path.parent) for path in paths], np.int64)
    numbers = [LABELLED.search(path.stem) for path in paths]
    return np.array([int(number[1]) if number else -1 for number in numbers], np.int64)


def _centre(image: Image.Image, how: Preprocessing, place: str) -> Image.Image:
    _, height, width = how.shape
    shorter = how.resize or round(max(height, width) / CENTRE_SHARE)
    columns, rows = (shorter * side // min(image.size) for side in image.size)
    if columns * rows > MOST_PIXELS:
        raise CalibrationError(
            f"{place}: {image.width}x{image.height} pixels would be resized to {columns}x{rows}, "
            f"at most {MOST_PIXELS} are: cut it to the part that matters"
        )
    resized = image.resize((columns, rows), RESAMPLING[how.interpolation])
    left, top = round((columns - width) / 2), round((rows - height) / 2)
    return resized.crop((left, top, left + width, top + height))


def _location(location: str, base: Path, how: Preprocessing) -> list[Images]:
    try:
        paths = expand(locate(location, base))
    except FileNotFoundError as error:
        raise CalibrationError(f"{location}: {error}") from error
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise CalibrationError(f"{missing[0]}: no such file or folder")
    arrays = [path for path in paths if path.suffix.lower() in ARRAYS]
    folders = [find_photographs(path) for path in paths if path not in arrays]
    photographs = [photograph for found in folders for photograph in found.paths]
    ignored = tuple(found.ignored for found in folders if found.ignored)
    return [*(_arrays(path, how) for path in arrays), _listed(photographs, how, ignored)]


def _listed(paths: Sequence[Path], how: Preprocessing, ignored: tuple[str, ...]) -> Images:
    if paths and how.shape[0] not in (1, 3):
        raise CalibrationError(
            f"{paths[0]}: a photograph has 1 or 3 channels, the network reads {how.shape[0]}: "
            "give arrays"
        )
    return Images(tuple(paths), labels_of(paths), how, ignored)


def read_arrays(path: Path, how: Preprocessing) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the images of an array file, uint8 or float32, and their labels [N]; -1 for none.

    Raises:
        CalibrationError: the file is unreadable, a shape or type wrong, or a value not finite in
            float32.
    """
    fields = read_fields(path)
    images = _images_of(path, fields)
    _check_images(path, images, how)
    labels = fields.get(LABELS_KEY, np.full(len(images), -1))
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise CalibrationError(
            f"{path}: {LABELS_KEY} are {labels.dtype} [{_sides(labels.shape)}], "
            f"whole numbers [{len(images)}] are needed"
        )
    found = images if images.dtype == np.uint8 else as_float32(path, images)
    return found, labels.astype(np.int64)


def _arrays(path: Path, how: Preprocessing) -> Images:
    images, labels = read_arrays(path, how)
    if images.dtype == np.uint8:
        place = str(path)
        images = np.stack([preprocess(picture(pixels), how, place) for pixels in images])
    return Images(tuple(images), labels, how)


def _images_of(path: Path, fields: dict[str, NDArray[Any]]) -> NDArray[Any]:
    others = [name for name in fields if name != LABELS_KEY]
    name = IMAGES_KEY if IMAGES_KEY in fields else others[0] if len(others) == 1 else None
    if name is None:
        held = ", ".join(fields) or "nothing"
        raise CalibrationError(f'{path}: holds {held}: name one array "{IMAGES_KEY}"')
    return fields[name]


def _check_images(path: Path, images: NDArray[Any], how: Preprocessing) -> None:
    pictures = images.dtype == np.uint8
    needed = f"[N, H, W, {how.shape[0]}]" if pictures else f"[N, {_sides(how.shape)}]"
    right = images.ndim == 4 and (
        images.shape[3] == how.shape[0] if pictures else images.shape[1:] == how.shape
    )
    if not right or not (pictures or np.issubdtype(images.dtype, np.floating)):
        raise CalibrationError(
            f"{path}: images are {images.dtype} [{_sides(images.shape)}], "
            f"the network needs {'uint8' if pictures else 'float32'} {needed}"
        )
    if not images.size:
        raise CalibrationError(f"{path}: holds no images")


def picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return the photograph of ``pixels`` [H, W, C]."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _sides(shape: Sequence[int]) -> str:
    return ", ".join(str(side) for side in shape)
