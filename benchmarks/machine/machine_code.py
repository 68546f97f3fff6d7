"""The machine code of a compiled network in basic blocks, and how much of each multiplies."""

from __future__ import annotations

import re
import subprocess
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click

from gmpq.runtime.shared_library import name_in_memory

INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\s+(\S+)(?:\s+([0-9a-f]+) <)?")  # place, name, target
ENDS = ("j", "ret", "call")  # of x86


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that run one after the other, from ``start`` in the library on."""

    start: int
    names: tuple[str, ...]

    def share(self, name: str) -> float:
        """Return the share of instructions that have ``name``."""
        return self.names.count(name) / len(self.names)


@dataclass(frozen=True, slots=True)
class Code:
    """All blocks of a library, in the order of their places, and where the last one ends."""

    blocks: tuple[Block, ...]
    end: int

    def at(self, place: int) -> Block | None:
        """Return the block at a place; None outside the library."""
        if not self.blocks or not self.blocks[0].start <= place < self.end:
            return None
        return self.blocks[bisect_right(self.blocks, place, key=lambda block: block.start) - 1]


def disassembled(library: Path) -> Code:
    """Return the code of a shared library for x86.

    Raises:
        click.ClickException: objdump is not installed.
    """
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise click.ClickException("objdump: apt-get install binutils") from error
    return in_blocks(done.stdout.splitlines())


def in_blocks(lines: Iterable[str]) -> Code:
    """Return the blocks of a listing: each begins where a branch leads to, or after a branch."""
    found = [match for match in map(INSTRUCTION.match, lines) if match]
    places = [int(match[1], 16) for match in found]
    names = [match[2] for match in found]
    targets = {int(match[3], 16) for match in found if match[3] and match[2].startswith(ENDS)}
    starts = [i for i in range(len(found)) if _begins(places, names, targets, i)]
    blocks = (
        Block(places[first], tuple(names[first:last]))
        for first, last in pairwise([*starts, len(found)])
    )
    return Code(tuple(blocks), places[-1] + 1 if places else 0)


def _begins(places: list[int], names: list[str], targets: set[int], i: int) -> bool:
    return i == 0 or places[i] in targets or names[i - 1].startswith(ENDS)


def loaded_at(library: Path) -> int:
    """Return where this process has loaded its copy of a library."""
    return next(_mapped(Path("/proc/self/maps").read_text().splitlines(), library))


def _mapped(maps: Iterable[str], library: Path) -> Iterator[int]:
    """Yield where the parts of a library begin, the first one first."""
    name = f"/memfd:{name_in_memory(library)} (deleted)"
    for line in maps:
        span, *_, path = line.split(maxsplit=5)
        if path == name:
            yield int(span.split("-")[0], 16)
