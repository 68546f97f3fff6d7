"""Temporary directories: those of a killed process are removed by the next process.

A process holds a lock (``flock``) on each of its directories, which ends with the process, however
it ends. A directory of our name, of our user and without a lock is therefore abandoned. Where a
file system has no locks, nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "gmpq-scratch-"  # no other program names directories like that
RANDOM = r"[a-z0-9_]{8}"


@contextmanager
def folder(parent: Path | None = None, name: str = "") -> Iterator[Path]:
    """Yield a new directory that is removed when the block ends, unless it was moved away.

    Args:
        parent: where it is made; None means the place of temporary files.
        name: what it is for; it is hidden then.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    prefix = f".{name}.{MARK}" if name else MARK
    for path in abandoned(place, prefix):
        shutil.rmtree(path, ignore_errors=True)
    made: Path | None = None
    held: int | None = None
    try:
        while held is None:
            made = place / f"{prefix}{secrets.token_hex(4)}"  # known before a signal can come
            try:
                made.mkdir(0o700)
            except FileExistsError:
                made = None
                continue
            held = _locked(made)
        assert made is not None
        yield made
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        if held is not None:
            os.close(held)


def abandoned(place: Path, prefix: str) -> Iterator[Path]:
    """Yield the directories ``prefix*`` in ``place`` whose process is gone, locked meanwhile."""
    ours = re.compile(re.escape(prefix) + RANDOM)
    with suppress(OSError):  # a place that cannot be listed
        for found in list(os.scandir(place)):
            if ours.fullmatch(found.name) and _is_own_folder(found):
                yield from _if_unlocked(Path(found.path))


def _is_own_folder(found: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # it is gone
        own = found.stat(follow_symlinks=False).st_uid == os.geteuid()
        return own and found.is_dir(follow_symlinks=False)
    return False


def _if_unlocked(path: Path) -> Iterator[Path]:
    try:
        held = _opened(path)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its process lives
        pass
    else:
        yield path
    finally:
        os.close(held)


def _locked(path: Path) -> int | None:
    """Return the descriptor that holds the lock of ``path``; None if another process took it."""
    try:
        held = _opened(path)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # no locks here
        fcntl.flock(held, fcntl.LOCK_EX)
    if path.exists():
        return held
    os.close(held)
    return None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
