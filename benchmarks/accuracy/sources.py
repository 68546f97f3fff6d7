"""The two data sets of the study as arrays of 32x32 RGB images, from the files that users have.

CIFAR-10 comes from ``cifar10_jpg_train.tar.xz``: a folder of JPEG files per class. Fashion-MNIST
comes from the ``idx.gz`` files that its authors and Debian's ``dataset-fashion-mnist`` have; its
28x28 grey images are padded with black to 32x32, so that one network reads both.
"""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.policy import InputSpec

CIFAR_FILE = "cifar10_jpg_train.tar.xz"
FASHION_IMAGES = "train-images-idx3-ubyte.gz"
FASHION_LABELS = "train-labels-idx1-ubyte.gz"
IDX_HEADER, IDX_LABELS_HEADER = 16, 8  # bytes
SIDE = 32

Pixels = NDArray[np.uint8]  # [N, 32, 32, 3]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set of the study: where it is read from, and how networks read it."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def input(self) -> InputSpec:
        """What policies say about the input."""
        return InputSpec((1, 3, SIDE, SIDE), self.mean, self.std)


CIFAR = Dataset("cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
FASHION = Dataset("fashion", (0.2190,) * 3, (0.3318,) * 3)  # of the padded images
DATASETS = (CIFAR, FASHION)


def read(dataset: Dataset, folder: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """Return all images of ``dataset`` in ``folder`` and their labels.

    Raises:
        CalibrationError: a file is missing or damaged.
    """
    try:
        return _cifar(folder / CIFAR_FILE) if dataset is CIFAR else _fashion(folder)
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError) as error:
        files = CIFAR_FILE if dataset is CIFAR else f"{FASHION_IMAGES} and {FASHION_LABELS}"
        raise CalibrationError(f"{folder}: cannot read {files}: {error}") from error


def split(
    dataset: Dataset, folder: Path, out: Path, sizes: dict[str, int], seed: int = 0
) -> dict[str, Path]:
    """Write disjoint random parts of ``sizes``, each as an .npz in ``out``; return their files."""
    paths = {part: out / f"{dataset.name}-{part}-{size}.npz" for part, size in sizes.items()}
    if not all(path.exists() for path in paths.values()):
        images, labels = read(dataset, folder)
        out.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(seed).permutation(len(labels))
        start = 0
        for part, size in sizes.items():
            chosen = order[start : start + size]
            np.savez(paths[part], images=images[chosen], labels=labels[chosen])
            start += size
    return paths


def _cifar(path: Path) -> tuple[Pixels, NDArray[np.int64]]:
    images, classes = [], []
    with tarfile.open(path, "r:xz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".jpg"):
                continue
            images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
            classes.append(PurePosixPath(member.name).parent.name)
    _, labels = np.unique(classes, return_inverse=True)
    return np.stack(images), labels.astype(np.int64)


def _fashion(folder: Path) -> tuple[Pixels, NDArray[np.int64]]:
    grey = _idx(folder / FASHION_IMAGES, IDX_HEADER).reshape(-1, 28, 28)
    labels = _idx(folder / FASHION_LABELS, IDX_LABELS_HEADER)
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[..., None], 3, axis=3), labels.astype(np.int64)


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)
