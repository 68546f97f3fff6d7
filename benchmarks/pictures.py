"""Panels side by side in one file, drawn equally each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gmpq.errors import install_extra


@contextmanager
def panels(path: Path, count: int, width: float) -> Iterator[list[Any]]:
    """Give ``count`` axes of ``width`` inches in a row, then write them to ``path``.

    Raises:
        click.UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--plot needs matplotlib: {install_extra('plot')}") from error
    with mpl.rc_context({"svg.hashsalt": "gmpq"}):  # equal numbers draw an equal file
        figure = Figure(figsize=(width * count, 3.6), layout="constrained")
        yield list(figure.subplots(1, count, squeeze=False)[0])
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
