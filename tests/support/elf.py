"""The global symbols of an object file or a static library, read by ``nm``."""

from __future__ import annotations

import subprocess
from pathlib import Path


def global_symbols(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the global symbols that an object defines, and of those that it needs."""
    command = ["nm", "--extern-only", "--format=posix", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    found = [(row[0], row[1]) for row in rows if len(row) > 1]  # not the name of a member
    return (
        frozenset(name for name, kind in found if kind not in "Uw"),
        frozenset(name for name, kind in found if kind in "Uw"),
    )
