"""The hot loop of an assembler file, as other libraries write theirs by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from predicted import mca

LABEL = re.compile(r"^\s*([\w.$]+):")
BRANCH = re.compile(
    r"^\s*(?:b\.?\w\w|cbn?z\s+\w+,|tbn?z\s+\w+,\s*#?\w+,)\s+([\w.$]+)\s*$", re.IGNORECASE
)
INSTRUCTION = re.compile(r"^\s+[a-zA-Z]")


def row(path: Path, cpu: str) -> tuple[str, str, str]:
    """Return the file, the processor, and the MACs per cycle of its loop with the most MACs.

    Raises:
        click.UsageError: the file has no loop that multiplies.
    """
    try:
        lines = [line.split("//")[0].rstrip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: cannot be read: {error}") from error
    loop = hot(lines)
    if not loop:
        raise click.UsageError(f"{path}: has no loop that multiplies vectors of bytes")
    return path.stem, cpu, f"{mca.macs(loop) / mca.block_cycles(loop, cpu):.1f}"


def hot(lines: list[str]) -> list[str]:
    """Return the instructions of the loop that multiplies most, without its branch, if any does."""
    loop = max(_loops(lines), key=mca.macs, default=[])
    return [line for line in loop if not BRANCH.match(line)] if mca.macs(loop) else []


def _loops(lines: list[str]) -> Iterator[list[str]]:
    """Yield the instructions of loops that have no other loop within."""
    places: dict[str, int] = {}
    last_end = -1
    for number, line in enumerate(lines):
        if label := LABEL.match(line):
            places[label[1]] = number
        branch = BRANCH.match(line)
        name = branch[1].removesuffix("b") if branch else ""
        start = places.get(branch[1], places.get(name)) if branch else None
        if start is not None and start > last_end:
            last_end = number
            yield [each for each in lines[start + 1 : number] if INSTRUCTION.match(each)]
