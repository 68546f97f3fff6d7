"""Random crops and flips, drawn anew for every image of every epoch from (seed, epoch, image).

So no state has to be saved: a resumed run, and a run on several processes, draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmpq.inputs.images import RESAMPLING, Preprocessing, picture, preprocess
from gmpq.inputs.photographs import open_photograph
from gmpq.training.data import Item, Labelled

Floats = NDArray[np.float32]

PADDING_SHARE = 8  # an eighth of the side around small images: 4 pixels for 32, as CIFAR has it
SMALLEST_AREA = 0.25  # of a photograph that a crop shows
RATIOS = (3 / 4, 4 / 3)  # of a crop's sides


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is drawn at random."""

    crop: bool = True
    flip: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Training inputs of one epoch."""

    data: Labelled
    augmentation: Augmentation
    seed: int
    epoch: int

    def number(self, *more: int) -> int:
        """Return a seed for whatever else is random in this epoch."""
        return int(np.random.default_rng((self.seed, self.epoch, *more)).integers(1 << 62))

    def order(self) -> NDArray[np.int64]:
        """Return the order [N] in which the epoch shows the images."""
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self.data))

    def batch(self, indices: Sequence[int]) -> tuple[Floats, NDArray[np.int64]]:
        """Return the inputs [N, C, H, W] and labels [N] of some images."""
        inputs = [self._input(index) for index in indices]
        return np.stack(inputs), self.data.labels[np.asarray(indices)]

    def _input(self, index: int) -> Floats:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        image = _crop(self.data.items[index], self.data.how, rng, self.augmentation.crop)
        if self.augmentation.flip and rng.random() < 0.5:
            return np.ascontiguousarray(image[:, :, ::-1])
        return image


def _crop(item: Item, how: Preprocessing, rng: np.random.Generator, crop: bool) -> Floats:
    _, height, width = how.shape
    if isinstance(item, np.ndarray) and item.dtype != np.uint8:
        image = item.astype(np.float32)
        return _shift(image, rng, (1, 2)) if crop else image
    if isinstance(item, np.ndarray) and item.shape[:2] == (height, width) and how.resize is None:
        pixels = _shift(item, rng, (0, 1)) if crop else item
        return preprocess(picture(pixels), how)
    photograph = open_photograph(item) if isinstance(item, Path) else picture(item)
    if not crop:
        return preprocess(photograph, how)
    return preprocess(_part(photograph, how, rng), replace(how, resize=None))


def _shift(image: NDArray[Any], rng: np.random.Generator, axes: tuple[int, int]) -> NDArray[Any]:
    """Return ``image`` moved by up to an eighth of its sides, with zeros where nothing was."""
    pads = [(0, 0)] * image.ndim
    starts = [slice(None)] * image.ndim
    for axis in axes:
        side = image.shape[axis]
        reach = side // PADDING_SHARE
        start = int(rng.integers(0, 2 * reach + 1))
        pads[axis], starts[axis] = (reach, reach), slice(start, start + side)
    return np.ascontiguousarray(np.pad(image, pads)[tuple(starts)])


def _part(image: Image.Image, how: Preprocessing, rng: np.random.Generator) -> Image.Image:
    """Return a random part of a photograph, of the size of the network's input."""
    _, height, width = how.shape
    area = rng.uniform(SMALLEST_AREA, 1.0) * image.width * image.height
    ratio = math.exp(rng.uniform(*np.log(RATIOS)))
    columns = min(image.width, max(1, round(math.sqrt(area * ratio))))
    rows = min(image.height, max(1, round(math.sqrt(area / ratio))))
    left = int(rng.integers(0, image.width - columns + 1))
    top = int(rng.integers(0, image.height - rows + 1))
    box = (left, top, left + columns, top + rows)
    size = (width, height)
    return image.convert("RGB").resize(size, RESAMPLING[how.interpolation], box)
