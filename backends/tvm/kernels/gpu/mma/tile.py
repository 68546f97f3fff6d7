"""Tiles of the implicit matrix product, and weights as shared memory holds them.

A block of threads computes ``bm`` pixels times ``bn`` outputs in steps of ``bk`` bytes of K, a warp
``wm`` times ``wn`` of them. Fragments of m16n8k32 (PTX ISA, "Matrix Fragments for mma.m16n8k32"):
accumulator i of a lane is row ``lane / 4 + 8 * (i / 2)``, column ``2 * (lane % 4) + i % 2``. So
where row ``8 * j + c`` of a warp's weights holds output ``c / 2 * (wn / 4) + 2 * j + c % 2``, the
accumulators of a lane are ``wn / 4`` neighbouring outputs, which it stores at once.

Segment p of 16 bytes of row r lies at ``p ^ (r / max(1, 8 / segments)) % segments``: the eight rows
that ``ldmatrix`` reads together then lie in eight different groups of banks.

Weights of four bits lie two in a byte: those of the first 16 of 32 bytes of K in its low half,
those of the second in its high half. Alone in the high half of a byte, a weight is the signed
number ``16 * w``, so starts are times 16 and factors are divided by 16, which changes no
rounding of float32. What must be proved is that 16 times the accumulator fits int32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.gpu.isa.builder import Expr

SEGMENT = 16  # bytes that a thread copies at once
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
    weight_bits: int = 8  # in memory: 8 or 4

    @property
    def weights_row(self) -> int:
        """Bytes of a step's weights of one output."""
        return self.bk * self.weight_bits // 8

    @property
    def scale(self) -> int:
        """What accumulators are multiplied with."""
        return 16 if self.weight_bits == 4 else 1

    @property
    def step_bytes(self) -> int:
        """Bytes of the buffers of a step."""
        return self.bm * self.bk + self.bn * self.weights_row

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.bm // self.wm * (self.bn // self.wn) * WARP

    @property
    def buffer_bytes(self) -> int:
        """Shared memory of a block."""
        return self.stages * self.step_bytes

    @property
    def own(self) -> int:
        """Neighbouring outputs of a thread."""
        return self.wn // 4

    def legal(self) -> bool:
        """Return whether all threads copy as many segments of A, and the buffers fit.

        Weights of four bits come in pairs of 32 bytes of K.
        """
        whole = self.bm * self.bk % (SEGMENT * self.threads) == 0
        pairs = self.weight_bits == 8 or self.bk == 64
        return whole and pairs and self.buffer_bytes <= STATIC_SHARED

    def name(self) -> str:
        """Return the name of the configuration."""
        size = f"{self.bm}x{self.bn}x{self.bk}, warps {self.wm}x{self.wn}, {self.stages} buffers"
        return size if self.weight_bits == 8 else f"{size}, weights of {self.weight_bits} bits"


def swizzled(row: Expr, segment: Expr, segments: int) -> Expr:
    """Return where a segment of a row lies."""
    return segment ^ ((row // max(1, 8 // segments)) % segments)


def outputs_of_rows(tile: Tile) -> NDArray[np.intp]:
    """Return the output of a block that each row of its weights holds, [bn]."""
    row = np.arange(tile.wn)
    j, c = row // 8, row % 8
    own = c // 2 * tile.own + 2 * j + c % 2
    return np.concatenate([first + own for first in range(0, tile.bn, tile.wn)])


def packed(taps: NDArray[np.int8], tile: Tile) -> NDArray[np.int8]:
    """Return weights [O, K] as int8 [blocks, steps, bn, bytes], as shared memory holds them."""
    outputs, depth = taps.shape
    blocks, steps = -(-outputs // tile.bn), depth // tile.bk
    full = np.zeros((blocks * tile.bn, depth), np.int8)
    full[:outputs] = taps
    rows = full.reshape(blocks, tile.bn, depth)[:, outputs_of_rows(tile)]
    stored = rows if tile.weight_bits == 8 else _halves(rows)
    segments = tile.weights_row // SEGMENT
    tiles = stored.reshape(blocks, tile.bn, steps, segments, SEGMENT).transpose(0, 2, 1, 3, 4)
    found, row = np.empty_like(tiles), np.arange(tile.bn)
    for segment in range(segments):
        found[:, :, row, swizzled(row, segment, segments)] = tiles[:, :, row, segment]
    return np.ascontiguousarray(found).reshape(blocks, steps, tile.bn, tile.weights_row)


def _halves(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return [..., K] as bytes [..., K / 2] of two weights of four bits."""
    pairs = rows.reshape(*rows.shape[:-1], -1, 2, SEGMENT).view(np.uint8)
    low, high = pairs[..., 0, :] & 15, pairs[..., 1, :] << 4
    found: NDArray[np.int8] = (low | high).view(np.int8).reshape(*rows.shape[:-1], -1)
    return found
