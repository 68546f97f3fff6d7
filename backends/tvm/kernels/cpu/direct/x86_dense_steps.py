"""How rows of taps of dense pixels are cut into steps of four bytes, and outputs into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, DirectTile
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR

GATHERED_BYTES = 32 << 10  # on the stack of a thread, in its first-level cache
GATHERING = 2.5  # cycles to gather a byte of each of sixteen pixels
SHORT_ROW = 3  # steps that LLVM unrolls, with the weights of two in registers


@dataclass(frozen=True, slots=True)
class RowSteps:
    """How the bytes of all rows of taps are cut into steps of four."""

    rows: int  # of taps
    row_bytes: int
    gathers: bool

    @property
    def whole(self) -> int:
        """Steps of a row."""
        return self.row_bytes // GROUP if self.gathers else -(-self.row_bytes // GROUP)

    @property
    def left(self) -> list[tuple[int, int]]:
        """Rows and bytes that no step of a row holds."""
        return [*product(range(self.rows), range(self.whole * GROUP, self.row_bytes))]

    @property
    def words(self) -> int:
        """Steps of gathered bytes."""
        return -(-len(self.left) // GROUP)

    @property
    def total(self) -> int:
        """Steps of an output."""
        return self.rows * self.whole + self.words

    def arrange(self, codes: Array) -> Array:
        """Return weights int8 [O, 4 * total, 1, 1] of [O, C, kH, kW], in the order of steps."""
        outputs, inputs, rows, columns = codes.shape
        flat = codes.transpose(0, 2, 3, 1).reshape(outputs, rows, columns * inputs)
        inside = flat[:, :, : self.whole * GROUP]
        missing = self.whole * GROUP - inside.shape[2]
        padded = np.pad(inside, ((0, 0), (0, 0), (0, missing))).reshape(outputs, -1)
        left = flat[:, :, self.whole * GROUP :].reshape(outputs, -1)
        last = np.pad(left, ((0, 0), (0, self.words * GROUP - left.shape[1])))
        return np.concatenate([padded, last], axis=1)[:, :, None, None]


@dataclass(frozen=True, slots=True)
class DenseRows:
    """A tile of a convolution on dense pixels."""

    steps: RowSteps
    shape: DirectShape  # of one tap, whose channels are all steps
    tile: DirectTile

    def __str__(self) -> str:
        gathered = f", {self.steps.words} gathered" if self.steps.words else ""
        return f"{self.tile}, {self.steps.total} steps{gathered}"

    @property
    def blocks(self) -> int:
        """Blocks of outputs."""
        return -(-self.shape.vectors // self.tile.vectors)

    @property
    def row_tiles(self) -> int:
        """Rows of tiles of an image."""
        return -(-self.shape.y.height // self.tile.rows)

    @property
    def gathered(self) -> int:
        """Gathered words of a row of tiles."""
        return self.tile.rows * self.steps.words * self.shape.y.width

    @property
    def lanes(self) -> int:
        """Pixels whose bytes are gathered at once."""
        return min(VECTOR, self.shape.y.width)

    def fits(self, registers: int) -> bool:
        """Return whether registers hold the tile, the stack its bytes, and vectors are paired.

        A vector of outputs alone is requantized more slowly than two.
        """
        ahead = self.tile.vectors if self.steps.whole <= SHORT_ROW else 0
        held = (self.tile.pixels + 1) * self.tile.vectors + ahead + 2
        paired = self.tile.vectors > 1 or self.shape.vectors == 1
        return paired and held <= registers and GROUP * self.gathered <= GATHERED_BYTES

    def gathering(self) -> float:
        """Return the predicted cycles to gather."""
        rows = self.shape.x.batch * self.row_tiles * self.tile.rows
        return rows * -(-self.shape.y.width // VECTOR) * len(self.steps.left) * GATHERING
