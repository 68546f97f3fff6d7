"""Labelled images for training: checked, shuffled, cropped and mirrored, the same for one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gmpq.data import Images, Preprocessing, find_images
from gmpq.errors import CalibrationError
from gmpq.search.distributed import Ranks
from gmpq.search.sizes import check_sizes

Batch = tuple[torch.Tensor, torch.Tensor]  # images [N, C, H, W], labels [N]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random crops out of images padded by ``padding`` pixels, and mirror images."""

    padding: int = 4
    flip: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images with a class each."""

    images: Images
    labels: torch.Tensor  # [N]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """The number of classes, counted up to the largest label."""
        return int(self.labels.max()) + 1

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the images and labels at ``indices``."""
        items = tuple(self.images.items[index] for index in indices)
        part = Images(items, self.images.labels[list(indices)], self.images.preprocessing)
        (inputs,) = part.batches(len(items))
        return torch.from_numpy(inputs), self.labels[list(indices)]

    def black(self) -> torch.Tensor:
        """Return what a black pixel is to the network, [C, 1, 1]; arrays of inputs are at 0."""
        how = self.images.preprocessing
        values = -np.array(how.mean, np.float32) / np.array(how.std, np.float32)
        return torch.from_numpy(values)[:, None, None]


def open_samples(
    locations: Sequence[str], preprocessing: Preprocessing, limit: int | None = None
) -> Samples:
    """Return the labelled images at ``locations``, as ``gmpq.data.find_images`` finds them.

    Raises:
        CalibrationError: there are none, some have no label, all have one, or they are of another
            size than the network's input and nothing says how to resize them.
    """
    place = ", ".join(locations)
    if preprocessing.resize is None:
        check_sizes(locations, preprocessing.shape)
    return labelled(_spread(find_images(locations, preprocessing), limit), place)


def labelled(images: Images, place: str) -> Samples:
    """Return ``images`` that all have labels, of at least two classes; ``place`` is for messages.

    Raises:
        CalibrationError: they have not.
    """
    missing = int((images.labels < 0).sum())
    if missing:
        raise CalibrationError(
            f"{place}: {missing} of {len(images.labels)} images have no label, or a negative one: "
            'give a folder per class, or an .npz with "images" and "labels"'
        )
    if len(np.unique(images.labels)) < 2:
        raise CalibrationError(
            f"{place}: all {len(images.labels)} images are of class {images.labels[0]}: "
            "training needs at least two classes"
        )
    return Samples(images, torch.from_numpy(images.labels))


def _spread(images: Images, limit: int | None) -> Images:
    """Return at most ``limit`` of the images, evenly spread: folders follow their classes."""
    count = len(images.items)
    if limit is None or limit >= count:
        return images
    indices = [index * count // limit for index in range(limit)]
    items = tuple(images.items[index] for index in indices)
    return Images(items, images.labels[indices], images.preprocessing)


def check_labels(samples: Samples, classes: int, place: str) -> None:
    """Pass labels that a network of ``classes`` has; raises ``CalibrationError``."""
    if samples.classes > classes:
        index = int(samples.labels.argmax())
        raise CalibrationError(
            f"{place}: label {samples.classes - 1} of image {index} is outside 0 to {classes - 1}: "
            f"correct the labels, or give the network {samples.classes} classes"
        )


def steps_per_epoch(count: int, batch: int) -> int:
    """Return how many batches ``count`` images are; a smaller last one is left out."""
    return max(1, count // batch)


def training_batches(
    samples: Samples, batch: int, augmentation: Augmentation, seed: tuple[int, int], ranks: Ranks
) -> Iterator[Batch]:
    """Yield this process's share of the batches of an epoch; ``seed`` is (seed, epoch)."""
    order = torch.randperm(len(samples), generator=_generator(*seed, 0))
    own = _generator(*seed, 1 + ranks.rank)
    black = samples.black()
    share = max(1, min(batch, len(samples)) // ranks.count)
    for step in range(steps_per_epoch(len(samples), batch)):
        start = step * share * ranks.count + ranks.rank * share
        images, labels = samples.read(order[start : start + share].tolist())
        yield augment(images, augmentation, black, own), labels


def plain_batches(samples: Samples, batch: int) -> Iterator[Batch]:
    """Yield all images in order."""
    for start in range(0, len(samples), batch):
        yield samples.read(range(start, min(start + batch, len(samples))))


def augment(
    images: torch.Tensor, how: Augmentation, black: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return random crops [N, C, H, W] of the padded images, half of them mirrored."""
    count, _, height, width = images.shape
    reach = 2 * how.padding + 1
    tops, lefts = (torch.randint(reach, (count, 1), generator=generator) for _ in range(2))
    rows = tops + torch.arange(height)
    columns = lefts + torch.arange(width)
    if how.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = _pad(images, how.padding, black)
    batch = torch.arange(count)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)  # channels last, which trains faster on processors


def _pad(images: torch.Tensor, padding: int, black: torch.Tensor) -> torch.Tensor:
    count, channels, height, width = images.shape
    sides = (height + 2 * padding, width + 2 * padding)
    padded = black.expand(channels, 1, 1).repeat(count, 1, *sides)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    return padded


def mixed(*seeds: int) -> int:
    """Return one seed of several whole numbers."""
    return int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]) >> 1


def _generator(*seeds: int) -> torch.Generator:
    return torch.Generator().manual_seed(mixed(*seeds))
