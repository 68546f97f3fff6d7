"""Where gmpq keeps things between its runs."""

from __future__ import annotations

import os
from pathlib import Path

from gmpq.errors import OutputError


def user_cache() -> Path:
    """Return the folder in which gmpq remembers what it measured, fetched and built.

    Raises:
        OutputError: the user has no home.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return place.expanduser() / "gmpq"
    except RuntimeError as error:  # of a container whose user is unknown
        raise OutputError("no home is known: set XDG_CACHE_HOME to a folder") from error


def tuning_cache() -> Path | None:
    """Return the file of measured kernels; None where the user has no home."""
    try:
        return user_cache() / "kernels.json"
    except OutputError:
        return None
