"""Images in .npy and .npz files, which run no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmpq.errors import CalibrationError
from gmpq.files.untrusted import DAMAGE, opened

SUFFIXES = (".npy", ".npz")
IMAGES_KEY, LABELS_KEY = "images", "labels"


def read_fields(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name, of any shape and type; a .npy array is "images".

    Raises:
        CalibrationError: the file is missing, no regular file, or damaged.
    """
    with opened(path, CalibrationError) as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            fields = {IMAGES_KEY: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        except DAMAGE as error:
            raise CalibrationError(f"{path}: not a readable array: {error}") from error
    for name, field in fields.items():
        if not isinstance(field, np.ndarray):
            raise CalibrationError(f"{path}: not a readable array: {name} is no .npy")
    return fields


def as_float32(path: Path, images: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``images`` [N, ...], of any floating type, as float32.

    Raises:
        CalibrationError: a value is not finite, or not in float32.
    """
    with np.errstate(over="ignore"):
        found = images.astype(np.float32)
    if not np.isfinite(found).all():
        if np.isfinite(images).all():
            worst = float(np.abs(images).max())
            raise CalibrationError(f"{path}: holds {worst:g}, beyond float32: scale the data")
        raise CalibrationError(f"{path}: holds NaN or infinity: clean the data")
    return found
