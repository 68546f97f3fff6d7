"""How a depthwise convolution is cut: rows into lanes, channels into blocks, pixels into tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.depthwise.taps import Taps
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_lanes import Lanes, lanes_for
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, clamped_start
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import Conv2d, Window

MOST_ROWS = 4  # of output in a tile
MOST_COLUMNS = 14
MOST_PRODUCTS = 1200  # of a tile, whose code has no loop


@dataclass(frozen=True, slots=True)
class ChannelBlocks:
    """Some of the channels, in blocks of one kind of lanes; the last block may overlap."""

    lanes: Lanes
    first: int
    channels: int

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.channels // self.lanes.channels)

    def start(self, block: Expr) -> Expr:
        """Return the first channel of a block."""
        return self.first + clamped_start(block, self.lanes.channels, self.channels)

    def order(self) -> Array:
        """Return the channel of every lane, int64 [blocks, vectors, lanes]."""
        starts = np.arange(self.blocks) * self.lanes.channels
        inside = np.minimum(starts, self.channels - self.lanes.channels) + self.first
        return inside[:, None, None] + self.lanes.order


@dataclass(frozen=True, slots=True)
class RowsTile:
    """Output pixels that one piece of straight code computes, and the channels in parts."""

    rows: int
    columns: int
    parts: tuple[ChannelBlocks, ...]

    @property
    def instruction(self) -> str:
        """What multiplies, the same in all parts."""
        return self.parts[0].lanes.instruction

    def __str__(self) -> str:
        parts = " + ".join(f"{part.blocks} x {part.lanes.channels}" for part in self.parts)
        return f"{self.rows}x{self.columns} pixels, {parts} channels"


def taps_of(window: Window, rows: int, lanes: Lanes) -> Taps:
    """Return which codes fill the lanes of a tile of ``rows`` output rows."""
    return Taps(window, rows, lanes.rows, across=True)


def tiles(site: Site) -> list[tuple[RowsTile, float]]:
    """Return the tiles whose code is short and fits the registers, with their predicted cycles."""
    node, y = site.node, site.output.codes
    assert isinstance(node, Conv2d)
    found = []
    for parts in _partitions(lanes_for(site.target), y.stored):
        for rows in range(1, min(MOST_ROWS, y.height) + 1):
            room = min(_room(node.window, rows, part.lanes) for part in parts)
            if room and all(_fits(node.window, rows, part.lanes) for part in parts):
                tile = RowsTile(rows, _columns(y.width, min(room, MOST_COLUMNS)), parts)
                found.append((tile, _cycles(y, node.window, tile)))
    return sorted(found, key=lambda pair: pair[1])


def _partitions(kinds: tuple[Lanes, ...], stored: int) -> list[tuple[ChannelBlocks, ...]]:
    """Return the ways to cut the channels: into one kind of lanes, or into wide and slim ones."""
    found: list[tuple[ChannelBlocks, ...]] = [
        (ChannelBlocks(lanes, 0, stored),) for lanes in kinds if lanes.channels <= stored
    ]
    if len(found) == 2 and stored % kinds[0].channels:
        whole = stored // kinds[0].channels * kinds[0].channels
        found.append(
            (ChannelBlocks(kinds[0], 0, whole), ChannelBlocks(kinds[1], whole, stored - whole))
        )
    return found


def _room(window: Window, rows: int, lanes: Lanes) -> int:
    """Return how many columns' dot products the code may hold."""
    return MOST_PRODUCTS // (taps_of(window, rows, lanes).count * lanes.vectors)


def _fits(window: Window, rows: int, lanes: Lanes) -> bool:
    """Return whether the vectors of codes that one step of columns reads stay in registers.

    AVX2 has too few registers for any kernel; its spilled vectors cost less than they save.
    """
    live = _made(window, taps_of(window, rows, lanes), lanes.pixels)
    return lanes.rows == 2 or live * lanes.vectors <= 22


def _columns(width: int, most: int) -> int:
    """Return the columns of a tile: the fewest computed twice, then the most at once."""
    return min(range(1, min(width, most) + 1), key=lambda n: (-(-width // n) * (n + 2), -n))


def _made(window: Window, taps: Taps, columns: int) -> int:
    """Return how many vectors of codes neighbouring output columns multiply."""
    across, far = window.stride[1], window.dilation[1]
    products = {product[:2] for output in range(taps.rows) for product in taps.products(output)}
    return len({(c * across + s * far, group) for c in range(columns) for s, group in products})


def _cycles(y: Layout, window: Window, tile: RowsTile) -> float:
    """Return predicted cycles: interleaving, dot products, and finishing."""
    work = 0.0
    for part in tile.parts:
        lanes, taps = part.lanes, taps_of(window, tile.rows, part.lanes)
        made = _made(window, taps, tile.columns) * lanes.interleave_cycles
        spilled = (tile.rows - 1) * lanes.spill_cycles
        products = taps.count * lanes.product_cycles + tile.rows * (lanes.epilogue_cycles + spilled)
        work += part.blocks * ((made + tile.columns * products) * lanes.vectors + 20)
    return y.batch * -(-y.height // tile.rows) * -(-y.width // tile.columns) * work
