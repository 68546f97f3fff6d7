"""Files from elsewhere: only regular ones are read, whole, and within a limit of bytes.

A FIFO or a device would be waited for, and a file without end would fill the memory. ``refuse``
makes the caller's own exception of a message that names the place, its value and a cure; an
exception class is one. Libraries that open a path themselves are preceded by ``require_file``.
"""

from __future__ import annotations

import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from gmpq.errors import GmpqError

MOST_TEXT = 16 << 20  # bytes; the policies and manifests of large networks take less than one
MOST_ARRAYS = 64 << 30
CHUNK = 1 << 20

# What libraries raise over damaged content. It stands at their calls alone.
DAMAGE = (
    *(OSError, EOFError, SyntaxError, MemoryError, RuntimeError, AssertionError, AttributeError),
    *(TypeError, ValueError, LookupError, ArithmeticError, ImportError),
    *(struct.error, zlib.error, zipfile.BadZipFile, tokenize.TokenError),
)

Refusal: TypeAlias = Callable[[str], GmpqError]


def read_text(path: Path, refuse: Refusal, most: int = MOST_TEXT) -> str:
    """Return the UTF-8 text in the file at ``path``, without a byte order mark.

    Raises:
        GmpqError: made by ``refuse``: there is no regular file, it cannot be read, it has more than
            ``most`` bytes, or it is not UTF-8.
    """
    return decode(str(path), read_bytes(path, refuse, most), refuse)


def decode(place: str, content: bytes, refuse: Refusal) -> str:
    """Return the UTF-8 text in ``content``, which is found at ``place``; raises as ``refuse``."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"{place}: byte {error.start} is not UTF-8: save it as UTF-8") from error


def read_bytes(path: Path, refuse: Refusal, most: int = MOST_ARRAYS) -> bytes:
    """Return the bytes of the file at ``path``.

    Raises:
        GmpqError: made by ``refuse``: there is no regular file, it cannot be read, or it has more
            than ``most`` bytes.
    """
    with opened(path, refuse, most) as file:
        try:
            content = b"".join(_chunks(file, most + 1))
        except OSError as error:
            raise refuse(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > most:  # it grew, or hides its size as those in /proc do
        raise refuse(_too_large(path, len(content), most))
    return content


def _chunks(file: BinaryIO, left: int) -> Iterator[bytes]:
    """Yield at most ``left`` bytes; one read of all would allocate them first."""
    while left and (chunk := file.read(min(left, CHUNK))):
        left -= len(chunk)
        yield chunk


@contextmanager
def opened(path: Path, refuse: Refusal, most: int = MOST_ARRAYS) -> Iterator[BinaryIO]:
    """Yield the regular file at ``path``, open for reading.

    Raises:
        GmpqError: made by ``refuse``: there is no regular file, it cannot be opened, or it has more
            than ``most`` bytes.
    """
    require_file(path, refuse, most)  # to open some devices is to use them
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise refuse(_unreadable(path, error)) from error
    with os.fdopen(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor), refuse, most)  # it may have become a FIFO
        yield file


def require_file(path: Path, refuse: Refusal, most: int = MOST_ARRAYS) -> None:
    """Pass the path of a regular file with at most ``most`` bytes.

    Raises:
        GmpqError: made by ``refuse``: there is none.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise refuse(_unreadable(path, error)) from error
    _check(path, found, refuse, most)


def _check(path: Path, found: os.stat_result, refuse: Refusal, most: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise refuse(f"{path}: is {_kind(found.st_mode)}: give a regular file")
    if found.st_size > most:
        raise refuse(_too_large(path, found.st_size, most))


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    match error:
        case FileNotFoundError():
            return f"{path}: no such file: check its path"
        case OSError():
            return f"{path}: cannot be read: {error.strerror}"
        case _:  # a zero byte, or half of a surrogate pair
            return f"{str(path)!r}: names no file: {error}"


def _too_large(path: Path, size: int, most: int) -> str:
    return f"{path}: has {size} bytes, at most {most} are read: give a smaller file"


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for holds, name in kinds if holds(mode)), "no file")
