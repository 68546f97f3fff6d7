"""Tiles of the implicit matrix product, and weights as shared memory holds them.

A block of threads computes ``bm`` pixels times ``bn`` outputs in steps of ``bk`` bytes of K, a warp
``wm`` times ``wn`` of them. Fragments of m16n8k32 (PTX ISA, "Matrix Fragments for mma.m16n8k32"):
accumulator i of a lane is row ``lane / 4 + 8 * (i / 2)``, column ``2 * (lane % 4) + i % 2``. So
where row ``8 * j + c`` of a warp's weights holds output ``c / 2 * (wn / 4) + 2 * j + c % 2``, the
accumulators of a lane are ``wn / 4`` neighbouring outputs, which it stores at once.

Piece p of 16 bytes of row r lies at ``p ^ (r / max(1, 8 / pieces)) % pieces``: the eight rows that
``ldmatrix`` reads together then lie in eight different groups of banks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.gpu.isa.builder import Expr

PIECE = 16  # bytes that a thread copies at once
WARP = 32
STATIC_SHARED = 48 << 10


@dataclass(frozen=True, slots=True)
class Tile:
    """Sizes of a tile: pixels, outputs, bytes of K of a step, those of a warp, buffers."""

    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.bm // self.wm * (self.bn // self.wn) * WARP

    @property
    def pieces(self) -> int:
        """Pieces of a row of a step."""
        return self.bk // PIECE

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.stages * (self.bm + self.bn) * self.bk

    @property
    def own(self) -> int:
        """Neighbouring outputs of a thread."""
        return self.wn // 4

    def legal(self) -> bool:
        """Return whether every thread copies whole pieces, and the buffers fit."""
        chunk = PIECE * self.threads
        whole = self.bm * self.bk % chunk == 0 and self.bn * self.bk % chunk == 0
        return whole and self.shared_bytes <= STATIC_SHARED

    def swizzled(self, row: Expr, piece: Expr) -> Expr:
        """Return where a piece of a row lies."""
        return piece ^ ((row // max(1, 8 // self.pieces)) % self.pieces)

    def name(self) -> str:
        """Return the name of the configuration."""
        return f"{self.bm}x{self.bn}x{self.bk}, warps {self.wm}x{self.wn}, {self.stages} buffers"


def outputs_of_rows(tile: Tile) -> NDArray[np.intp]:
    """Return the output of a block that each row of its weights holds, [bn]."""
    row = np.arange(tile.wn)
    j, c = row // 8, row % 8
    own = c // 2 * tile.own + 2 * j + c % 2
    return np.concatenate([first + own for first in range(0, tile.bn, tile.wn)])


def packed(taps: NDArray[np.int8], tile: Tile) -> NDArray[np.int8]:
    """Return weights [O, K] as int8 [blocks, steps, bn, bk], as shared memory holds them."""
    outputs, depth = taps.shape
    blocks, steps = -(-outputs // tile.bn), depth // tile.bk
    full = np.zeros((blocks * tile.bn, depth), np.int8)
    full[:outputs] = taps
    rows = full.reshape(blocks, tile.bn, depth)[:, outputs_of_rows(tile)]
    tiles = rows.reshape(blocks, tile.bn, steps, tile.pieces, PIECE).transpose(0, 2, 1, 3, 4)
    found, row = np.empty_like(tiles), np.arange(tile.bn)
    for piece in range(tile.pieces):
        found[:, :, row, tile.swizzled(row, piece)] = tiles[:, :, row, piece]
    return np.ascontiguousarray(found).reshape(blocks, steps, tile.bn, tile.bk)
