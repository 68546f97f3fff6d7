"""Where gmpq keeps things between its runs."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return the folder in which gmpq remembers what it measured, fetched and built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmpq"
