"""How a convolution is cut into tiles of the AMX unit, and how its weights are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.layout import GROUP, VECTOR, Layout
from gmpq.ir import Window

DEPTH = 64  # codes of one tile row
TILES = 8
LATENCY, LOAD = 52, 8  # cycles of a product and of a tile load from the first-level cache
FINISH = 5  # cycles to requantize 16 accumulators


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that the loops run over."""

    window: Window
    x: Layout
    y: Layout

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Rows and columns of the kernel at which a run of consecutive codes starts."""
        rows, columns = self.window.kernel
        return list(product(range(rows), range(1 if self._whole_rows else columns)))

    @property
    def taps_per_run(self) -> int:
        """Taps whose codes one run covers."""
        return self.window.kernel[1] if self._whole_rows else 1

    @property
    def steps(self) -> int:
        """Tile products per run."""
        return -(-self.taps_per_run * self.x.stored // DEPTH)

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return -(-self.y.channels // VECTOR)

    @property
    def _whole_rows(self) -> bool:
        return self.window.dilation[1] == 1


@dataclass(frozen=True, slots=True)
class Blocking:
    """How pixels and outputs are cut into tiles."""

    flat: bool
    pixels: int  # of one tile
    tiles: int  # of pixels at once
    vectors: int  # of outputs at once
    blocks_outside: bool

    def __str__(self) -> str:
        order = "blocks" if self.blocks_outside else "pixels"
        shape = f"{self.tiles}x{self.pixels} pixels x {self.vectors} vectors"
        return f"{'flat ' if self.flat else ''}{shape}, {order} outside"

    @property
    def registers(self) -> int:
        """Tile registers: accumulators, input, weights."""
        return self.tiles * self.vectors + self.tiles + self.vectors


def best_blockings(shape: Shape, cache_bytes: int, most: int) -> list[tuple[Blocking, float]]:
    """Return the blockings with the fewest predicted cycles, best first."""
    candidates = [
        Blocking(flat, pixels, tiles, vectors, _blocks_outside(shape, cache_bytes))
        for flat in ((False, True) if shape.window.stride == (1, 1) else (False,))
        for pixels in range(1, min(16, extent_of(shape, flat)) + 1)
        for tiles, vectors in ((2, 2), (1, 2), (2, 1), (3, 1), (1, 3), (1, 1))
        if vectors <= shape.vectors
    ]
    timed = [(b, _cycles(shape, b)) for b in candidates if b.registers <= TILES]
    return sorted(timed, key=lambda pair: pair[1])[:most]


def extent_of(shape: Shape, flat: bool) -> int:
    """Return the pixels along which tiles follow each other."""
    return (shape.y.height - 1) * pitch_of(shape) + shape.y.width if flat else shape.y.width


def pitch_of(shape: Shape) -> int:
    """Return the pixels from one stored input row to the next."""
    return shape.x.row // shape.x.stored


def _cycles(shape: Shape, b: Blocking) -> float:
    groups = -(-extent_of(shape, b.flat) // (b.pixels * b.tiles))
    if not b.flat:
        groups *= shape.y.height
    blocks = -(-shape.vectors // b.vectors)
    products = b.tiles * b.vectors * b.pixels
    step = max(products, LATENCY, LOAD * (b.tiles + b.vectors))
    finish = products * (FINISH + b.flat)
    return (
        shape.x.batch * groups * blocks * (len(shape.runs) * shape.steps * step + finish + LATENCY)
    )


def _blocks_outside(shape: Shape, cache_bytes: int) -> bool:
    weights = shape.vectors * len(shape.runs) * shape.steps * VECTOR * DEPTH
    return weights > min(shape.x.image, cache_bytes // 4)


def groups_of(shape: Shape, b: Blocking) -> int:
    """Return how many groups of tiles follow each other in a row, or in a flat image."""
    return -(-extent_of(shape, b.flat) // (b.pixels * b.tiles))


def pack(codes: Array, shape: Shape, b: Blocking) -> Array:
    """Return weights int8 [blocks, runs, steps, vectors, 16, 16 * 4]."""
    outputs, channels, rows, columns = codes.shape
    taps = np.zeros((outputs, rows, columns, shape.x.stored), np.int8)
    taps[..., :channels] = codes.transpose(0, 2, 3, 1)
    runs = taps.reshape(outputs, len(shape.runs), shape.taps_per_run * shape.x.stored)
    padded = np.zeros((shape.vectors * VECTOR, len(shape.runs), shape.steps * DEPTH), np.int8)
    padded[:outputs, :, : runs.shape[2]] = runs
    tiles = padded.reshape(
        shape.vectors, VECTOR, len(shape.runs), shape.steps, DEPTH // GROUP, GROUP
    ).transpose(0, 2, 3, 4, 1, 5)  # [vectors, runs, steps, 16, 16, 4]
    blocks = -(-shape.vectors // b.vectors)
    firsts = [min(i * b.vectors, shape.vectors - b.vectors) for i in range(blocks)]
    chosen = np.stack([tiles[first : first + b.vectors] for first in firsts])
    return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1, 4, 5, 6))


def configuration(b: Blocking) -> Array:
    """Return the 64 bytes that LDTILECFG reads: palette 1, bytes per row, rows of each tile.

    Tiles are numbered accumulators first, then inputs, then weights.
    """
    rows = [b.pixels] * (b.tiles * b.vectors + b.tiles) + [DEPTH // GROUP] * b.vectors
    setup = np.zeros(64, np.uint8)
    setup[0] = 1
    setup[16 : 16 + 2 * len(rows)].view(np.uint16)[:] = DEPTH
    setup[48 : 48 + len(rows)] = rows
    return setup
