"""What the products of Winograd convolution share: where operands and sums lie, and register tiles.

V holds the transformed inputs of a block of tiles and M the sums, both position by position; U the
weights in whatever order the product packs them. Of one position

    V is [tiles, channels]    and    M is [tiles, vectors, lanes];

products that multiply two tiles at once have V as [tiles / 2, channels / 8, 2, 8], and in M four
lanes hold two outputs of each of two tiles (``arm_mmla``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import ByLane
from gmpq.backends.tvm.kernels.cpu.isa.builder import LINE, Buffer, Expr
from gmpq.backends.tvm.kernels.cpu.isa.prefetch import WeightPrefetch
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, Vpdpbusd, Vpmaddubsw
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import NextWeights

PositionWeights: TypeAlias = tuple[Expr, Expr]  # position, start of its weights in U
RUN = 8  # codes of a tile that lie side by side in V, where tiles are multiplied together


@dataclass(frozen=True, slots=True)
class ProductMemory:
    """What the products of one block of tiles read and write."""

    v: Buffer
    u: Buffer
    m: Buffer
    table: Buffer  # int32, of overflow steps
    group: Expr  # of outputs
    first: Expr = 0  # of the group's weights in U
    prefetch: WeightPrefetch | None = None
    following: NextWeights | None = None


@dataclass(frozen=True, slots=True)
class ProductSizes:
    """What the products of one position run over."""

    tiles: int
    channels: int
    stored: int  # channels of one tile in V
    outputs: int


@dataclass(frozen=True, slots=True)
class RegisterTiles:
    """Register tiles of ``rows`` tiles by ``vectors`` vectors of outputs: what all kinds share."""

    rows: int
    vectors: int
    tiles: int
    all_vectors: int
    stored: int  # channels of one tile in V

    together: ClassVar[int] = 1  # tiles that are multiplied together
    fewest_outputs: ClassVar[int] = 128  # against which transforming the input again is cheap

    @property
    def blocks(self) -> int:
        """Register tiles of one position."""
        return self.row_blocks * -(-self.all_vectors // self.vectors)

    @property
    def row_blocks(self) -> int:
        """Register tiles of one position and group of outputs."""
        return -(-self.tiles // self.rows)

    @property
    def overlaps(self) -> bool:
        """Whether some tiles are multiplied twice, which must not add to M then."""
        return self.tiles % self.rows != 0

    def setup(self) -> Array:
        """Return int32 [1] of zero: there is nothing to set up."""
        return np.zeros(1, np.int32)

    def begin(self, setup: Expr) -> None:
        """Need no preparation."""

    def end(self) -> None:
        """Need no clean-up."""


@dataclass(frozen=True, slots=True)
class DotTiles(RegisterTiles):
    """Register tiles of products that each add up the channels of an int32."""

    dot: Vpdpbusd | Vpmaddubsw | Int16Dot | ByLane
    depth: int  # groups of channels

    @property
    def lanes(self) -> int:
        """Lanes of a vector of outputs."""
        return self.dot.lanes

    @property
    def dtype(self) -> str:
        """Type of a weight."""
        return self.dot.dtype

    @property
    def group(self) -> int:
        """Codes in one int32 of V."""
        return self.dot.group

    @property
    def input_pitch(self) -> int:
        """The int32 from one position to the next in V."""
        return self.tiles * self.pixel + LINE // 4

    @property
    def pixel(self) -> int:
        """The int32 from one tile to the next within a position of V."""
        return self.stored // self.group

    @property
    def output_pitch(self) -> int:
        """The int32 from one position to the next in M."""
        return self.tiles * self.vectors * self.lanes + LINE // 4

    @property
    def weight_lanes(self) -> int:
        """Weights of one vector."""
        return self.dot.elements

    @property
    def block_elements(self) -> int:
        """Weights of one position and group of outputs."""
        return self.depth * self.vectors * self.dot.elements

    def pack(self, weights: Array) -> Array:
        """Return weights [parts, O, I] as ``dot.pack`` packs them in the order of the loops.

        That is [parts, groups, depth, vectors, lanes, group] before packing.
        """
        whole = padded(weights, self.all_vectors * self.lanes, self.depth * self.group)
        lanes = (self.all_vectors, self.lanes, self.depth, self.group)
        groups = whole.reshape(len(weights), *lanes)[:, chosen(self.all_vectors, self.vectors)]
        return np.ascontiguousarray(self.dot.pack(groups.transpose(0, 1, 4, 2, 3, 5)))


def steps(count: int) -> Iterator[tuple[Expr, bool]]:
    """Yield the steps of a loop, and whether it is the first one, which has nothing to add to.

    The first few are written out. LLVM unrolls the loop of what is left by two if that is even; by
    three it runs out of registers.
    """
    apart = next(min(n, count) for n in (2, 4, 1, 3) if n >= count or (count - n) % 6 in (2, 4))
    yield from ((step, step == 0) for step in range(apart))
    with T.serial(apart, count) as step:
        yield step, False


def padded(weights: Array, outputs: int, channels: int) -> Array:
    """Return weights [parts, outputs, channels] of [parts, O, I], of any type: zeros added."""
    _, have_outputs, have_channels = weights.shape
    missing = ((0, 0), (0, outputs - have_outputs), (0, channels - have_channels))
    return np.pad(weights, missing)


def chosen(all_vectors: int, vectors: int) -> Array:
    """Return the vectors of each group, int64 [groups, vectors]; the last is moved inwards."""
    firsts = range(0, all_vectors, vectors)
    return np.array([[min(i, all_vectors - vectors) + n for n in range(vectors)] for i in firsts])
