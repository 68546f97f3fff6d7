"""Which codes of a window fill the lanes of one dot product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gmpq.ir import Window

Place: TypeAlias = tuple[int, int]  # row and column, of the input or of the kernel


@dataclass(frozen=True, slots=True)
class Taps:
    """Which codes of a window fill which lanes, for a number of output rows.

    Groups of neighbouring input rows fill a lane each. Every output row multiplies the groups that
    it touches, with zero weights for the rows that it does not. Rows that are left over, with
    ``across``, share a lane with those of the next columns.
    """

    window: Window
    rows: int  # of output
    per_lane: int
    across: bool = False

    @property
    def groups(self) -> list[list[Place]]:
        """The places of each group, from the tile's first one on; the last place may repeat."""
        far = self.window.dilation[1]
        found = [
            [(row, column * far) for column in range(self._columns(rows)) for row in rows]
            for rows in self._row_groups
        ]
        return [group + group[-1:] * (self.per_lane - len(group)) for group in found]

    def products(self, output: int) -> list[tuple[int, int, list[Place | None]]]:
        """Return kernel column, group, and the tap of each place of the group."""
        across, wanted = self.window.kernel[1], self._taps_of(output)
        found = []
        for group, rows in enumerate(self._row_groups):
            if wanted.keys().isdisjoint(rows):
                continue
            columns = self._columns(rows)
            for first in range(0, across, columns):
                s = min(first, across - columns)  # no column beyond the window is read
                taps: list[Place | None] = [
                    (wanted[row], s + column) if row in wanted and s + column >= first else None
                    for column in range(columns)
                    for row in rows
                ]
                found.append((s, group, taps + [None] * (self.per_lane - len(taps))))
        return sorted(found, key=lambda product: product[:2])

    @property
    def count(self) -> int:
        """Number of dot products per column."""
        return sum(len(self.products(output)) for output in range(self.rows))

    @property
    def _row_groups(self) -> list[list[int]]:
        rows = sorted({row for output in range(self.rows) for row in self._taps_of(output)})
        return [rows[i : i + self.per_lane] for i in range(0, len(rows), self.per_lane)]

    def _columns(self, rows: list[int]) -> int:
        """Return how many columns of ``rows`` fill a lane."""
        return min(self.per_lane // len(rows), self.window.kernel[1]) if self.across else 1

    def _taps_of(self, output: int) -> dict[int, int]:
        """Return the tap of each input row."""
        down, far = self.window.stride[0], self.window.dilation[0]
        return {output * down + tap * far: tap for tap in range(self.window.kernel[0])}
