"""Silence for libraries that print without being asked."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STDOUT = 1


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Let nothing that C code prints reach this process's standard output.

    HiGHS prints a line of debugging when it polishes a solution, whatever its options are.
    """
    flush = ctypes.CDLL(None).fflush  # C holds back what it prints, and would print it later
    sys.stdout.flush()
    kept = os.dup(STDOUT)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), STDOUT)
        yield
    finally:
        flush(None)
        os.dup2(kept, STDOUT)
        os.close(kept)
