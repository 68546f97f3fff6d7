"""Plain-text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows`` under ``header`` in aligned columns: the first to the left, others right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [_line(line, widths) for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *[cell.rjust(width) for cell, width in others]]
    return "  ".join(padded).rstrip()


def count(number: float) -> str:
    """Return ``number`` with its thousands apart: 1,814,073,344."""
    return f"{number:,.0f}"


def size(count_bytes: float) -> str:
    """Return a size in bytes with a unit that a person reads: 4.7 MB."""
    for unit, bytes_per in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count_bytes >= bytes_per:
            return f"{count_bytes / bytes_per:.1f} {unit}"
    return f"{count_bytes:.0f} B"
