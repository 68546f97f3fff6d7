"""Which rows of a window fill the lanes of one dot product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gmpq.ir import Window


@dataclass(frozen=True, slots=True)
class Taps:
    """Which rows of a window fill which lanes, for a number of output rows.

    Groups of neighbouring input rows fill a lane each. Every output row multiplies the groups that
    it touches, with zero weights for the rows that it does not.
    """

    window: Window
    rows: int  # of output
    per_lane: int

    @property
    def groups(self) -> list[list[int]]:
        """The input rows of each group, from the tile's first one on; the last row may repeat."""
        rows = sorted({row for output in range(self.rows) for row in self._rows_of(output)})
        padded = rows + rows[-1:] * (-len(rows) % self.per_lane)
        return [padded[i : i + self.per_lane] for i in range(0, len(padded), self.per_lane)]

    def products(self, output: int) -> list[tuple[int, int, list[int | None]]]:
        """Return kernel column, group, and the kernel row of each place of the group."""
        touched = list(self._touched(output))
        return [(s, group, taps) for s in range(self.window.kernel[1]) for group, taps in touched]

    @property
    def count(self) -> int:
        """Number of dot products per column."""
        return sum(len(self.products(output)) for output in range(self.rows))

    def _rows_of(self, output: int) -> list[int]:
        down, far = self.window.stride[0], self.window.dilation[0]
        return [output * down + tap * far for tap in range(self.window.kernel[0])]

    def _touched(self, output: int) -> Iterator[tuple[int, list[int | None]]]:
        wanted = {row: tap for tap, row in enumerate(self._rows_of(output))}
        for number, group in enumerate(self.groups):
            repeated = [row in group[:i] for i, row in enumerate(group)]
            taps = [None if r else wanted.get(g) for g, r in zip(group, repeated, strict=True)]
            if any(tap is not None for tap in taps):
                yield number, taps
