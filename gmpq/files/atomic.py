"""Files that appear complete or not at all.

A file is written in a hidden folder next to its place, brought to the disk (``fsync``), and
renamed over its place (``rename(2)``: readers see the old file or the new one). The folder is
removed however the block ends; that of a killed process, by the next write to the same place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gmpq.errors import OutputError
from gmpq.files import temporary


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield the file to write, which replaces ``path`` when the block ends without an error.

    A link is replaced, not followed. The permissions are those of a new file.

    Raises:
        OutputError: the file cannot be written, or ``path`` is a directory, a device or a pipe.
    """
    try:
        _check_replaceable(path)
        with temporary.folder(path.parent, path.name) as scratch:
            part = scratch / path.name
            yield part
            _sync(part)
            part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    with written(path) as part:
        part.write_text(text, "utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    with written(path) as part:
        part.write_bytes(content)


def _check_replaceable(path: Path) -> None:
    """Raise ``OSError`` if a rename would remove something other than a file (``/dev/null``)."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
