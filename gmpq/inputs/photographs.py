"""Photographs in files: where they are, and their pixels in eight bits.

Of 16 bits the upper eight are kept, in gray as in colours. Transparency is dropped, and EXIF's
rotation is not applied: both as torchvision's ``ImageFolder`` does.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.files.untrusted import DAMAGE, opened

SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
GRAY = ("1", "L", "LA")
GRAY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
WHITE_16 = ("PNG", "PPM")  # formats whose 32-bit pixels are of 16 bits
MOST_KINDS = 5  # of other files, in a message
MOST_FOLDERS = 1 << 16  # links make a tree without end of a few folders


@dataclass(frozen=True, slots=True)
class Found:
    """The photographs of a folder, in the order of their paths."""

    paths: tuple[Path, ...]
    ignored: str = ""  # one line on the other files, if there are any


def find_photographs(path: Path) -> Found:
    """Return the photographs in the folder ``path`` and those below it, or the file itself.

    Links are followed, but to no folder that they lie in. Names that begin with a dot are hidden.

    Raises:
        CalibrationError: a folder cannot be read, or there are too many.
    """
    if not path.is_dir():
        return Found((path,))
    files = [Path(file) for file in _files(path)]
    photographs = sorted(file for file in files if _is_photograph(file))
    others = Counter(
        file.suffix.lower() or "without suffix" for file in files if not _is_photograph(file)
    )
    return Found(tuple(photographs), _ignored(path, others))


def open_photograph(path: Path) -> Image.Image:
    """Return the photograph in a file, in mode L or RGB.

    Raises:
        CalibrationError: it cannot be read.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with opened(path, CalibrationError) as file:
        try:
            with Image.open(file, formats=formats) as image:
                image.load()
                return _eight_bits(image)
        except (*DAMAGE, Image.DecompressionBombError) as error:
            raise CalibrationError(f"{path}: not a readable image: {error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in GRAY_16 or (image.mode == "I" and image.format in WHITE_16):
        pixels = np.asarray(image).clip(0, 0xFFFF).astype(np.uint16)
        return Image.fromarray((pixels >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits say not which one is white: save 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # straight to RGB, Pillow warns
    return image.convert("L" if image.mode in GRAY else "RGB")


def _files(top: Path) -> Iterator[str]:
    """Yield the files below ``top``, without hidden ones."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(str(top), ())]
    folders = 0
    while waiting:
        folder, above = waiting.pop()
        folders += 1
        if folders > MOST_FOLDERS:
            raise CalibrationError(
                f"{top}: holds more than {MOST_FOLDERS} folders: is there a circle of links?"
            )
        real = os.path.realpath(folder)
        if real in above:
            continue
        for entry in _entries(folder):
            if entry.is_dir():
                waiting.append((entry.path, (*above, real)))
            else:
                yield entry.path


def _entries(folder: str) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise CalibrationError(f"{folder}: cannot be read: {error.strerror}") from error


def _is_photograph(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _ignored(path: Path, others: Counter[str]) -> str:
    if not others:
        return ""
    kinds = ", ".join(f"{suffix} {count}" for suffix, count in sorted(others.items())[:MOST_KINDS])
    more = f" and {len(others) - MOST_KINDS} other kinds" if len(others) > MOST_KINDS else ""
    return f"{path}: left out what is no photograph: {kinds}{more}"
