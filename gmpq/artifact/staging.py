"""A directory that appears complete or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gmpq.errors import OutputError
from gmpq.files import manifest, temporary


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes ``out`` when the block ends without an exception.

    It lies next to ``out``, so that one rename puts it into place; an earlier output of gmpq there
    is replaced. When the block fails, or is interrupted, nothing is left behind; what a killed
    process left is removed by the next one.

    Raises:
        OutputError: ``out`` cannot be written, or holds something that gmpq did not write.
    """
    place = check_replaceable(out)
    missing: list[Path] = []
    try:
        missing = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        _recover(place)
        with temporary.folder(place.parent, place.name) as work:
            yield work
            work.chmod(0o755)  # until now nobody else may read it
            check_replaceable(place)
            _replace(place, work)
    except OSError as error:
        if not _concerns(error, place):
            raise
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if not place.exists():
            _remove_empty(missing)


def check_replaceable(out: Path) -> Path:
    """Return where ``out`` leads: a free path, an empty directory, or one that gmpq alone wrote.

    Raises:
        OutputError: something else is there, or it cannot be seen.
    """
    try:
        place = out.resolve()
        if place.exists():
            _check_owned(place)
    except RuntimeError as error:  # of Python before 3.13
        raise OutputError(f"{out}: is a circle of links: choose another --out") from error
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error
    return place


def _check_owned(place: Path) -> None:
    if not place.is_dir():
        raise OutputError(f"{place}: is not a directory: choose another --out")
    owned = manifest.owned(place)
    others = sorted(path.name for path in place.iterdir() if path.name not in owned)
    if others:
        raise OutputError(
            f"{place}: already holds {others[0]}, which gmpq did not write: choose another --out"
        )


def _concerns(error: OSError, place: Path) -> bool:
    """Return whether an error is about the output, and not about another file that was needed."""
    if error.filename is None:  # a full disk
        return True
    path = Path(str(error.filename))
    return path in (place, *place.parents) or str(path).startswith(_hidden(place))


def _hidden(place: Path) -> str:
    return str(place.with_name(f".{place.name}.{temporary.MARK}"))


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:  # the deepest first
        with suppress(OSError):
            folder.rmdir()


def _replace(place: Path, work: Path) -> None:
    if not place.exists():
        work.rename(place)
        return
    with temporary.folder(place.parent, place.name) as aside:
        place.rename(aside / place.name)
        try:
            work.rename(place)
        except BaseException:
            (aside / place.name).rename(place)
            raise


def _recover(place: Path) -> None:
    """Put an earlier output back that a process was killed over while it replaced it."""
    for left in temporary.abandoned(place.parent, f".{place.name}.{temporary.MARK}"):
        if not place.exists() and (left / place.name / manifest.NAME).is_file():
            (left / place.name).rename(place)
