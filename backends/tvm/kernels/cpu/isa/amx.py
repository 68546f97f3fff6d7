"""How a convolution is cut into tiles of the AMX unit, and how its weights are laid out.

A tile register has 16 rows of 64 bytes; TDPBUSD adds the products of four u8 and four s8 to every
int32 of a tile of 16 x 16 (Intel SDM, TDPBUSD, LDTILECFG).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, streamed_cycles
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR, CpuTarget
from gmpq.ir import Window

INSTRUCTION = "tdpbusd"
DEPTH = 64  # codes of one tile row
TILES = 8
PRODUCT, LATENCY = 16, 52  # cycles between products, whatever their rows, and to the result
LOAD, FAR_LOAD, FARTHEST_LOAD = 8, 16, 64  # cycles to load a tile from each level of cache
EPILOGUE_CYCLES, FLAT_EPILOGUE_CYCLES = (
    8,
    12,
)  # cycles to requantize 16 accumulators, and to drop those in the halo


@dataclass(frozen=True, slots=True)
class AmxShape:
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
    """How pixels and outputs are cut into tiles: ``down`` x ``across`` tiles at once.

    A flat blocking has one row of tiles, along all padded rows of an image.
    """

    flat: bool
    pixels: int  # of one tile
    down: int
    across: int
    vectors: int  # of outputs at once
    blocks_outside: bool  # walk all pixels for one block of outputs, or the other way round

    def __str__(self) -> str:
        order = "blocks" if self.blocks_outside else "pixels"
        shape = f"{self.down}x{self.across} tiles of {self.pixels} x {self.vectors} vectors"
        return f"{'flat ' if self.flat else ''}{shape}, {order} outside"

    @property
    def tiles(self) -> int:
        """Tiles of pixels at once."""
        return self.down * self.across

    @property
    def accumulators(self) -> int:
        """Tile registers that accumulate."""
        return self.tiles * self.vectors

    @property
    def inputs(self) -> int:
        """Tile registers that take input tiles in turn."""
        return min(self.tiles, TILES - self.accumulators - self.vectors)


ARRANGEMENTS = tuple(  # down, across, vectors: at least one register is left for input
    (down, across, vectors)
    for down in range(1, 4)
    for across in range(1, 7)
    for vectors in range(1, 4)
    if down * across * vectors + vectors < TILES
)


def best_blockings(site: Site, shape: AmxShape, most: int) -> list[tuple[Blocking, float]]:
    """Return the blockings with the fewest predicted cycles, best first."""
    candidates = [
        Blocking(flat, pixels, down, across, vectors, outside)
        for flat in ((False, True) if shape.window.stride == (1, 1) else (False,))
        for pixels in range(1, min(16, extent_of(shape, flat)) + 1)
        for down, across, vectors in ARRANGEMENTS
        for outside in (False, True)
        if vectors <= shape.vectors
        and down <= (1 if flat else shape.y.height)
        and across <= -(-extent_of(shape, flat) // pixels)
    ]
    timed = [(b, _cycles(site, shape, b)) for b in candidates]
    return sorted(timed, key=lambda pair: pair[1])[:most]


def extent_of(shape: AmxShape, flat: bool) -> int:
    """Return the pixels along which tiles follow each other."""
    return (shape.y.height - 1) * pitch_of(shape) + shape.y.width if flat else shape.y.width


def pitch_of(shape: AmxShape) -> int:
    """Return the pixels from one stored input row to the next."""
    return shape.x.row // shape.x.stored


def width_of(shape: AmxShape, b: Blocking) -> int:
    """Return the pixels that ``across`` tiles cover."""
    return min(b.pixels * b.across, extent_of(shape, b.flat))


def groups_of(shape: AmxShape, b: Blocking) -> int:
    """Return how many groups of tiles follow each other in a row, or in a flat image."""
    return -(-extent_of(shape, b.flat) // width_of(shape, b))


def rows_of(shape: AmxShape, b: Blocking) -> int:
    """Return how many rows of tile groups an image has."""
    return 1 if b.flat else -(-shape.y.height // b.down)


def _cycles(site: Site, shape: AmxShape, b: Blocking) -> float:
    """Return predicted cycles: products, or loads of tiles from the cache that holds them."""
    groups = groups_of(shape, b) * rows_of(shape, b) * shape.x.batch
    blocks = -(-shape.vectors // b.vectors)
    steps = len(shape.runs) * shape.steps
    block_bytes = steps * b.vectors * VECTOR * DEPTH
    rows = shape.x.image if b.flat else shape.x.row * (b.down + shape.window.reach[0])
    kept = block_bytes * (1 if b.blocks_outside else blocks)  # weights read again and again
    loads = LOAD * b.tiles + _weight_load(rows + kept, site.target) * b.vectors
    step = max(PRODUCT * b.accumulators, loads, LATENCY)
    epilogue = b.accumulators * b.pixels * (FLAT_EPILOGUE_CYCLES if b.flat else EPILOGUE_CYCLES)
    one = steps * step + epilogue + LATENCY
    return groups * blocks * one + streamed_cycles(site, blocks * block_bytes)


def _weight_load(kept_bytes: int, target: CpuTarget) -> int:
    """Return the cycles to load a tile of weights from the cache that holds ``kept_bytes``."""
    if kept_bytes <= target.l1d_bytes:
        return LOAD
    return FAR_LOAD if kept_bytes <= target.l2_bytes // 2 else FARTHEST_LOAD


def pack(codes: Array, shape: AmxShape, b: Blocking) -> Array:
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
    """Return uint8 [64] as LDTILECFG reads it: palette 1, bytes per row, rows of each tile.

    Tiles are numbered accumulators first, then inputs, then weights.
    """
    rows = [b.pixels] * (b.accumulators + b.inputs) + [DEPTH // GROUP] * b.vectors
    setup = np.zeros(64, np.uint8)
    setup[0] = 1
    setup[16 : 16 + 2 * len(rows)].view(np.uint16)[:] = DEPTH
    setup[48 : 48 + len(rows)] = rows
    return setup
