"""Whether images have the size of the network's input, by their headers alone."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.files.locations import expand, locate
from gmpq.inputs.arrays import IMAGES_KEY
from gmpq.inputs.arrays import SUFFIXES as ARRAYS
from gmpq.inputs.photographs import find_photographs


def check_sizes(locations: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Pass photographs of the size of ``shape`` [C, H, W], and what ``find_images`` will refuse.

    Raises:
        CalibrationError: a photograph has another size.
    """
    _, height, width = shape
    for path, rows, columns in _sizes(locations):
        if (rows, columns) != (height, width):
            raise CalibrationError(
                f"{path}: {rows}x{columns} pixels, the network reads {height}x{width}: "
                f'give "resize": {max(height, width)}, or another shape, in the model.input of a '
                "policy file"
            )


def _sizes(locations: Sequence[str]) -> Iterator[tuple[Path, int, int]]:
    for location in locations:
        try:
            paths = expand(locate(location, Path()))
        except FileNotFoundError:
            continue
        for path in paths:
            if path.suffix.lower() in ARRAYS:
                yield from _array_size(path)
            elif path.is_dir():
                for photograph in find_photographs(path).paths:
                    yield from _photograph_size(photograph)


def _photograph_size(path: Path) -> Iterator[tuple[Path, int, int]]:
    try:
        with Image.open(path) as image:
            yield path, image.height, image.width
    except (OSError, SyntaxError, ValueError):
        return


def _array_size(path: Path) -> Iterator[tuple[Path, int, int]]:
    try:
        shape, dtype = _array_header(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return
    if dtype == np.uint8 and len(shape) == 4:
        yield path, shape[1], shape[2]


def _array_header(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return _header(file)
    with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES_KEY}.npy") as file:
        return _header(file)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    return shape, dtype
