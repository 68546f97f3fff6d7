"""Which vectors of accumulators become codes together.

A tile's vectors are taken pixel by pixel, ``together`` at a time: a group may hold the last ones of
one pixel and the first ones of the next. Codes of one pixel lie side by side in memory; a run of
them is as long as a power of two and begins at a multiple of it, as parts of registers do. Where
pixels follow each other in memory without padding channels, a whole group is one run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr
from gmpq.backends.tvm.kernels.layout import Layout

Pixel: TypeAlias = tuple[Expr, Expr, Expr]  # image, row, column


@dataclass(frozen=True, slots=True, eq=False)
class PixelSums:
    """Accumulators of one pixel: vectors of channels that follow each other."""

    pixel: Pixel
    acc: Sequence[Expr]
    kept: Expr | None = None  # whether to store them, where that depends


@dataclass(frozen=True, slots=True, eq=False)
class PixelRun:
    """Vectors of one pixel."""

    sums: PixelSums
    first: int  # of the pixel's vectors
    place: int  # in the group
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class VectorGroup:
    """Vectors that become one vector of codes; a last group may have fewer than ``together``."""

    runs: tuple[PixelRun, ...]
    channel: Expr  # of every pixel's first vector
    lanes: int  # of a vector of accumulators
    together: int
    neighbours: bool = False  # pixels are side by side in one row

    @property
    def size(self) -> int:
        """Codes of the group, those of missing vectors included."""
        return self.together * self.lanes

    @property
    def vectors(self) -> list[tuple[Expr, Expr]]:
        """Accumulators and their first channels."""
        return [
            (run.sums.acc[n], self.channel + n * self.lanes)
            for run in self.runs
            for n in range(run.first, run.first + run.count)
        ]

    def runs_in(self, layout: Layout) -> tuple[PixelRun, ...]:
        """Return the runs of codes that lie side by side in ``layout``."""
        first, count = self.runs[0], sum(run.count for run in self.runs)
        whole = layout.stored == len(first.sums.acc) * self.lanes
        if self.neighbours and whole and count == self.together:
            return (PixelRun(first.sums, first.first, 0, count),)
        return self.runs

    def place(self, layout: Layout, run: PixelRun) -> Expr:
        """Return where the codes of a run lie."""
        return place_of(run.sums.pixel, layout) + self.channel + run.first * self.lanes


def place_of(pixel: Pixel, layout: Layout) -> Expr:
    """Return where the codes of a pixel lie."""
    image, row, column = pixel
    return layout.origin + (image * layout.image + row * layout.row + column * layout.stored)


def vector_groups(
    sums: Sequence[PixelSums], channel: Expr, lanes: int, together: int, *, neighbours: bool = False
) -> Iterator[VectorGroup]:
    """Yield the groups of a tile's accumulators; ``neighbours`` are pixels of one row in order."""
    vectors = [(pixel, n) for pixel in sums for n in range(len(pixel.acc))]
    for start in range(0, len(vectors), together):
        runs = tuple(_runs(vectors[start : start + together]))
        yield VectorGroup(runs, channel, lanes, together, neighbours)


def _runs(vectors: list[tuple[PixelSums, int]]) -> Iterator[PixelRun]:
    place = 0
    while place < len(vectors):
        sums, first = vectors[place]
        same = sum(other is sums for other, _ in vectors[place:])
        count = next(n for n in (4, 2, 1) if n <= same and place % n == 0)
        yield PixelRun(sums, first, place, count)
        place += count
