"""A directory that appears complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gmpq import manifest
from gmpq.errors import OutputError


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes ``out`` when the block ends without an exception.

    It lies beside ``out``, so that one rename puts it into place; an earlier output of gmpq there
    is replaced. When the block fails, or is interrupted, nothing is left behind.

    Raises:
        OutputError: ``out`` cannot be written, or holds something that gmpq did not write.
    """
    place = out.resolve()
    missing: list[Path] = []
    try:
        check_replaceable(place)
        missing = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        _remove_empty(missing)
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        yield work
        work.chmod(0o755)  # mkdtemp lets nobody else read it
        check_replaceable(place)
        _replace(place, work)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not place.exists():
            _remove_empty(missing)


def check_replaceable(place: Path) -> None:
    """Pass a path that is free, an empty directory, or a directory that gmpq alone wrote.

    Raises:
        OutputError: something else is there.
    """
    if not place.exists():
        return
    if not place.is_dir():
        raise OutputError(f"{place}: is not a directory: choose another --out")
    found = sorted(path.name for path in place.iterdir())
    others = [name for name in found if name not in manifest.owned(place)]
    if others:
        raise OutputError(
            f"{place}: already holds {others[0]}, which gmpq did not write: choose another --out"
        )


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:  # the deepest first
        with suppress(OSError):
            folder.rmdir()


def _replace(place: Path, work: Path) -> None:
    if not place.exists():
        work.rename(place)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        place.rename(aside / place.name)
        try:
            work.rename(place)
        except BaseException:
            (aside / place.name).rename(place)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
