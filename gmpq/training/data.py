"""Labelled images for training: a folder of a folder per class, arrays, or a torchvision data set.

photographs/cat/1.jpg, photographs/dog/2.jpg    the classes are the sorted names of the folders
train.npz                                       with "images" and "labels"
torchvision:CIFAR10:/data                       where torchvision and its files are present
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.errors import TrainingError, closest, install_extra
from gmpq.files.locations import locate
from gmpq.inputs.images import Images, Preprocessing, picture, preprocess, read_arrays
from gmpq.inputs.photographs import find_photographs
from gmpq.ir import FloatGraph
from gmpq.training.scores import scores_of

TORCHVISION = "torchvision:"

Item: TypeAlias = Path | NDArray[Any]  # a file, uint8 pixels [H, W, C], or an input [C, H, W]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Images with a label each, as they are before augmentation."""

    place: str  # for messages
    items: Sequence[Item]
    labels: NDArray[np.int64]  # [N]
    how: Preprocessing
    classes: tuple[str, ...] | None = None  # by label, where folders name them
    ignored: tuple[str, ...] = ()  # one line for each folder that holds other files too

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.items)

    def take(self, indices: NDArray[np.int64]) -> Labelled:
        """Return the images at ``indices`` [n], in their order."""
        return replace(self, items=[self.items[i] for i in indices], labels=self.labels[indices])

    def spread(self, count: int | None) -> Labelled:
        """Return at most ``count`` of the images, evenly spread: folders follow their classes."""
        if count is None or count >= len(self):
            return self
        return self.take(np.arange(count) * len(self) // count)

    def inputs(self) -> Images:
        """Return the network's inputs without augmentation, as compiling reads them."""
        items = tuple(_input(item, self.how) for item in self.items)
        return Images(items, self.labels, self.how)


def open_all(locations: Sequence[str], how: Preprocessing) -> Labelled:
    """Return the labelled images at all ``locations``; folders that are named alike are one class.

    Raises:
        TrainingError: there are no labelled images, or a later folder is no class of the first.
        CalibrationError: an array or its shape is wrong.
    """
    first, *others = locations
    found = [open_labelled(first, how)]
    found += [open_labelled(location, how, found[0]) for location in others]
    items = [item for part in found for item in part.items]
    labels = np.concatenate([part.labels for part in found])
    ignored = tuple(line for part in found for line in part.ignored)
    place = ", ".join(locations)
    return replace(found[0], place=place, items=items, labels=labels, ignored=ignored)


def open_labelled(location: str, how: Preprocessing, train: Labelled | None = None) -> Labelled:
    """Return the labelled images at ``location``.

    Args:
        location: a folder, an .npz file, ``package:NAME/PATH`` or ``torchvision:NAME:FOLDER``.
        how: what the network reads.
        train: the training data, if this is for validation: its folders name the classes.

    Raises:
        TrainingError: there are no labelled images, or a folder is no class.
        CalibrationError: an array or its shape is wrong.
    """
    if location.startswith(TORCHVISION):
        return _torchvision(location, how, train=train is None)
    try:
        path = locate(location, Path())
    except FileNotFoundError as error:
        raise TrainingError(f"{location}: {error}") from error
    if not path.exists():
        raise TrainingError(f"{path}: no such file or folder")
    if path.is_dir():
        return _folders(path, how, train.classes if train else None)
    images, labels = read_arrays(path, how)
    return Labelled(str(path), list(images), labels, how)


def classes_of(graph: FloatGraph) -> int:
    """Return the number of classes of a network.

    Raises:
        LoweringError: it is no classifier.
    """
    return graph.values[scores_of(graph)].shape[1]


def check_trainable(data: Labelled, outputs: int) -> None:
    """Pass data of at least two classes, all among the network's ``outputs``.

    Raises:
        TrainingError: they are not.
    """
    check_labels(data, outputs)
    check_classes(data)


def check_labels(data: Labelled, outputs: int) -> None:
    """Pass data whose labels are numbers of the network's ``outputs``.

    Raises:
        TrainingError: it is empty, has no labels, or a label outside.
    """
    if not len(data):
        raise TrainingError(f"{data.place}: holds no images: give a folder per class, or arrays")
    outside = data.labels[(data.labels < 0) | (data.labels >= outputs)]
    if outside.size:
        image = int(np.flatnonzero(data.labels == outside[0])[0])
        if outside[0] == -1:
            raise TrainingError(
                f"{data.place}: image {image} has no label: give a folder per class, or an .npz "
                'with "images" and "labels"'
            )
        raise TrainingError(
            f"{data.place}: image {image} has label {outside[0]}: the network has {outputs} "
            f"outputs, labels go from 0 to {outputs - 1}"
        )


def check_classes(data: Labelled) -> None:
    """Pass data with at least two classes.

    Raises:
        TrainingError: all images have one label.
    """
    if len(np.unique(data.labels)) == 1:
        raise TrainingError(
            f"{data.place}: all {len(data)} images have label {data.labels[0]}: "
            "training needs at least two classes"
        )


def split(data: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Return ``data`` without, and only with, a random ``share`` of it."""
    order = np.random.default_rng(seed).permutation(len(data))
    held = max(1, round(share * len(data)))
    if held >= len(data):
        raise TrainingError(f"{data.place}: {len(data)} images cannot be split: give --val")
    return data.take(np.sort(order[held:])), data.take(np.sort(order[:held]))


def _input(item: Item, how: Preprocessing) -> Path | NDArray[np.float32]:
    if isinstance(item, Path):
        return item
    return preprocess(picture(item), how) if item.dtype == np.uint8 else item.astype(np.float32)


def _folders(path: Path, how: Preprocessing, classes: tuple[str, ...] | None) -> Labelled:
    names = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != "."))
    known = names if classes is None else classes
    items: list[Item] = []
    labels: list[int] = []
    ignored: list[str] = []
    for name in names:
        if name not in known:
            raise TrainingError(
                f"{path / name}: is no class of the training data{closest(name, known)}"
            )
        found = find_photographs(path / name)
        items.extend(found.paths)
        labels.extend([known.index(name)] * len(found.paths))
        ignored.extend([found.ignored] if found.ignored else [])
    if not items:
        raise TrainingError(
            f"{path}: holds no images: put the photographs (.jpg, .png) of each class in a folder"
        )
    return Labelled(str(path), items, np.array(labels, np.int64), how, known, tuple(ignored))


def _torchvision(location: str, how: Preprocessing, *, train: bool) -> Labelled:
    name, _, root = location.removeprefix(TORCHVISION).partition(":")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise TrainingError(
            f"{location}: torchvision is not installed: {install_extra('torchvision')}"
        ) from error
    known = {"CIFAR10": datasets.CIFAR10, "CIFAR100": datasets.CIFAR100, "MNIST": datasets.MNIST}
    if name not in known:
        raise TrainingError(f"{location}: unknown data set{closest(name, known)}: {list(known)}")
    try:
        found = known[name](root or ".", train=train, download=False)
    except RuntimeError as error:
        raise TrainingError(f"{location}: its files are not in '{root or '.'}'") from error
    pixels = np.asarray(found.data)
    images = pixels if pixels.ndim == 4 else pixels[..., None]
    return Labelled(location, list(images), np.asarray(found.targets, np.int64), how)
