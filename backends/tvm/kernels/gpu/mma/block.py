"""A thread of a block: which pixels, outputs and segments of the operands are its own."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.gpu.isa.builder import Buffer, Expr, register
from gmpq.backends.tvm.kernels.gpu.mma.shape import Shape
from gmpq.backends.tvm.kernels.gpu.mma.tile import SEGMENT, WARP, Tile, swizzled


@dataclass(frozen=True, slots=True)
class Memory:
    """What a block reads: codes, weights, and its buffers in shared memory."""

    x: Buffer
    weights: Buffer
    shared: Buffer


@dataclass(frozen=True, slots=True)
class Block:
    """A thread of a block: the tile, and which pixels and outputs are its own."""

    shape: Shape
    tile: Tile
    asynchronous: bool
    memory: Memory
    block_n: Expr
    thread: Expr
    rows: Buffer  # places of the rows of A that the thread copies

    @property
    def lane(self) -> Expr:
        """The thread's number in its warp."""
        return self.thread % WARP

    @property
    def warp_m(self) -> Expr:
        """The first pixel of the warp in the block."""
        return self.thread // WARP % (self.tile.bm // self.tile.wm) * self.tile.wm

    @property
    def warp_n(self) -> Expr:
        """The first output of the warp in the block."""
        return self.thread // WARP // (self.tile.bm // self.tile.wm) * self.tile.wn

    @property
    def a_copies(self) -> int:
        """Segments of A that a thread copies in a step."""
        return self.tile.bm * self.tile.bk // (SEGMENT * self.tile.threads)

    @property
    def b_copies(self) -> int:
        """Segments of the weights that a thread copies in a step."""
        return -(-self.weight_segments // self.tile.threads)

    @property
    def weight_segments(self) -> int:
        """Segments of the weights of a step."""
        return self.tile.bn * self.tile.weights_row // SEGMENT

    def in_step(self, number: int) -> Expr | None:
        """Return whether the thread has a segment, A's first; None where all threads do."""
        own = number - self.a_copies
        if own < 0 or (own + 1) * self.tile.threads <= self.weight_segments:
            return None
        return self.chunk(own) < self.weight_segments

    @property
    def a_segments(self) -> int:
        """Segments of a row of A."""
        return self.tile.bk // SEGMENT

    def buffer(self, slot: Expr) -> Expr:
        """Return the first byte of a step's buffer in shared memory: A, then the weights."""
        return slot * self.tile.step_bytes

    def chunk(self, number: int) -> Expr:
        """Return the number of a segment that the thread copies."""
        return self.thread + number * self.tile.threads

    def segments(self, step: Expr, slot: Expr) -> list[tuple[Expr, Expr]]:
        """Return the addresses, to and from, of the segments that the thread copies for a step."""
        tile, at, found = self.tile, register(self.buffer(slot)), []
        offset = register(self.shape.step_offset(step, tile.bk))
        for i in range(self.a_copies):
            row, segment = self.chunk(i) // self.a_segments, self.chunk(i) % self.a_segments
            to = at + row * tile.bk + swizzled(row, segment, self.a_segments) * SEGMENT
            found.append((self.memory.shared[to], self.memory.x[self.rows[i] + offset]))
        size = tile.bn * tile.weights_row
        own = register((self.block_n * self.shape.steps(tile.bk) + step) * size)
        for i in range(self.b_copies):
            to = at + tile.bm * tile.bk + self.chunk(i) * SEGMENT
            found.append(
                (self.memory.shared[to], self.memory.weights[own + self.chunk(i) * SEGMENT])
            )
        return [(T.address_of(to), T.address_of(source)) for to, source in found]
