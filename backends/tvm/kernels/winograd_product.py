"""The products of Winograd convolution: [tiles, channels] x [channels, outputs] per position.

Two ways to compute them with one interface: dot products of AVX-512 VNNI, and AMX tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.dot import Vnni
from gmpq.backends.tvm.kernels.amx_tile import DEPTH, LATENCY, LOAD, Blocking, configuration
from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.layout import GROUP, VECTOR, Layout
from gmpq.backends.tvm.script import Buffer, Expr, inwards, load, put, registers, run, store
from gmpq.backends.tvm.target import Target

VNNI = Vnni()
REGISTERS = 32
At: TypeAlias = tuple[Expr, Expr, Expr, Expr]  # position, part of U, group of outputs, first vector


@dataclass(frozen=True, slots=True)
class DotProduct:
    """Register tiles of ``rows`` tiles by ``vectors`` vectors of outputs."""

    rows: int
    vectors: int
    tiles: int
    all_vectors: int
    stored: int  # channels of one tile in V
    depth: int  # groups of four channels

    def __str__(self) -> str:
        return f"vnni {self.rows} x {self.vectors} vectors"

    def cycles(self, vectors: int) -> float:
        """Return predicted cycles of one position."""
        step = max(self.rows * self.vectors, self.rows + self.vectors) / 2 + 0.5
        one = self.depth * step + self.rows * self.vectors * 2
        return -(-self.tiles // self.rows) * -(-vectors // self.vectors) * one

    def setup(self) -> Array:
        """Return nothing to set up."""
        return np.zeros(64, np.uint8)

    def begin(self, setup: Expr) -> None:
        """Need no preparation."""

    def end(self) -> None:
        """Need no clean-up."""

    def weight_elements(self, parts: int) -> int:
        """Return the bytes of packed weights."""
        groups = -(-self.all_vectors // self.vectors)
        return parts * groups * self.depth * self.vectors * DEPTH

    def pack(self, weights: Array) -> Array:
        """Return int8 [parts, groups, depth, vectors, 16, 4] of weights [parts, O, I]."""
        padded = _padded(weights, self.all_vectors * VECTOR, self.depth * GROUP)
        split = padded.reshape(len(weights), self.all_vectors, VECTOR, self.depth, GROUP)
        chosen = split[:, _groups(self.all_vectors, self.vectors)]
        return np.ascontiguousarray(chosen.transpose(0, 1, 4, 2, 3, 5))

    def multiply(
        self, v: Buffer, u: Buffer, start: Buffer, m: Buffer, at: At, *, more: bool
    ) -> None:
        """Write M of one position; ``more`` adds to what it holds."""
        position, part, group, vector = at
        groups = -(-self.all_vectors // self.vectors)
        with T.serial(0, -(-self.tiles // self.rows)) as block:
            first = inwards(block, self.rows, self.tiles)
            acc = [registers(self.vectors, "int32x16") for _ in range(self.rows)]
            place = (position * self.tiles + first) * self.vectors
            for p, n in product(range(self.rows), range(self.vectors)):
                held = load(m, (place + p * self.vectors + n) * VECTOR, VECTOR)
                fresh = load(start, (position * self.all_vectors + vector + n) * VECTOR, VECTOR)
                put(acc[p][n], held if more else fresh)
            with T.serial(0, self.depth) as k:
                base = ((part * groups + group) * self.depth + k) * self.vectors
                self._step(acc, v, u, ((position * self.tiles + first), base, k))
            for p, n in product(range(self.rows), range(self.vectors)):
                store(m, (place + p * self.vectors + n) * VECTOR, acc[p][n][0], VECTOR)

    def _step(
        self, acc: list[list[Buffer]], v: Buffer, u: Buffer, at: tuple[Expr, Expr, Expr]
    ) -> None:
        row, base, k = at
        weights = registers(self.vectors, "int8x64")
        for n, weight in enumerate(weights):
            put(weight, load(u, (base + n) * DEPTH, DEPTH))
        codes = registers(1, "int8x64")[0]
        for p, slots in enumerate(acc):
            put(codes, VNNI.operands(v[(row + p) * (self.stored // GROUP) + k])[0])
            for slot, weight in zip(slots, weights, strict=True):
                put(slot, VNNI.accumulate(slot[0], [codes[0]], [weight[0]]))


@dataclass(frozen=True, slots=True)
class TileProduct:
    """AMX tiles: ``blocking.pixels`` counts tiles of the image."""

    blocking: Blocking
    tiles: int
    all_vectors: int
    stored: int
    steps: int  # of 64 channels

    def __str__(self) -> str:
        return f"amx {self.blocking}"

    @property
    def vectors(self) -> int:
        """Vectors of outputs at once."""
        return self.blocking.vectors

    def cycles(self, vectors: int) -> float:
        """Return predicted cycles of one position."""
        b = self.blocking
        products_ = b.tiles * b.vectors * b.pixels
        step = max(products_, LATENCY, LOAD * (b.tiles + b.vectors))
        one = self.steps * step + 2 * products_
        return -(-self.tiles // (b.tiles * b.pixels)) * -(-vectors // b.vectors) * one

    def setup(self) -> Array:
        """Return the tile configuration."""
        return configuration(self.blocking)

    def begin(self, setup: Expr) -> None:
        """Configure the tiles of this thread."""
        run("llvm.x86.ldtilecfg", setup)

    def end(self) -> None:
        """Release the tiles."""
        run("llvm.x86.tilerelease")

    def weight_elements(self, parts: int) -> int:
        """Return the bytes of packed weights."""
        groups = -(-self.all_vectors // self.vectors)
        return parts * groups * self.steps * self.vectors * VECTOR * DEPTH

    def pack(self, weights: Array) -> Array:
        """Return int8 [parts, groups, steps, vectors, 16, 16 * 4] of weights [parts, O, I]."""
        padded = _padded(weights, self.all_vectors * VECTOR, self.steps * DEPTH)
        lanes = (self.all_vectors, VECTOR, self.steps, DEPTH // GROUP, GROUP)
        split = padded.reshape(len(weights), *lanes)
        chosen = split[:, _groups(self.all_vectors, self.vectors)]
        return np.ascontiguousarray(chosen.transpose(0, 1, 4, 2, 5, 3, 6))

    def multiply(
        self, v: Buffer, u: Buffer, start: Buffer, m: Buffer, at: At, *, more: bool
    ) -> None:
        """Write M of one position; ``more`` adds to what it holds."""
        b = self.blocking
        width = min(b.pixels * b.tiles, self.tiles)
        with T.serial(0, -(-self.tiles // width)) as block:
            first = inwards(block, width, self.tiles)
            rows = [first + min(i * b.pixels, self.tiles - b.pixels) for i in range(b.tiles)]
            self._start(start, m, rows, at, more=more)
            with T.serial(0, self.steps) as step:
                self._step(v, u, rows, (*at, step))
            for i, (row, n) in enumerate(product(rows, range(b.vectors))):
                place = T.address_of(m[self._place(at[0], row, n)])
                run("llvm.x86.tilestored64", T.int8(i), place, T.int64(b.vectors * DEPTH))

    def _place(self, position: Expr, row: Expr, n: int) -> Expr:
        return ((position * self.tiles + row) * self.vectors + n) * VECTOR

    def _start(self, start: Buffer, m: Buffer, rows: list[Expr], at: At, *, more: bool) -> None:
        position, _, _, vector = at
        for i, (row, n) in enumerate(product(rows, range(self.vectors))):
            if more:
                place, stride = T.address_of(m[self._place(position, row, n)]), self.vectors * DEPTH
            else:
                first = (position * self.all_vectors + vector + n) * VECTOR
                place, stride = T.address_of(start[first]), 0
            run("llvm.x86.tileloadd64", T.int8(i), place, T.int64(stride))

    def _step(
        self, v: Buffer, u: Buffer, rows: list[Expr], at: tuple[Expr, Expr, Expr, Expr, Expr]
    ) -> None:
        position, part, group, _, step = at
        b = self.blocking
        inputs = b.tiles * b.vectors
        for i, row in enumerate(rows):
            first = ((position * self.tiles + row) * self.stored + step * DEPTH) // GROUP
            run(
                "llvm.x86.tileloadd64",
                T.int8(inputs + i),
                T.address_of(v[first]),
                T.int64(self.stored),
            )
        base = ((part * -(-self.all_vectors // b.vectors) + group) * self.steps + step) * b.vectors
        for n in range(b.vectors):
            place = T.address_of(u[(base + n) * VECTOR * DEPTH])
            run("llvm.x86.tileloadd64", T.int8(inputs + b.tiles + n), place, T.int64(DEPTH))
        for i, (tile, n) in enumerate(product(range(b.tiles), range(b.vectors))):
            operands = (T.int8(inputs + tile), T.int8(inputs + b.tiles + n))
            run("llvm.x86.tdpbusd", T.int8(i), *operands)


Product: TypeAlias = DotProduct | TileProduct


def fitted(target: Target, tiles: int, vectors: int, x: Layout) -> list[Product]:
    """Return the best product of each kind that the target has, for blocks of ``tiles``."""
    found: list[Product] = []
    if "avx512vnni" in target.features:
        found.append(_best_dot(tiles, vectors, x))
    if "amx-int8" in target.features:
        found.append(_best_tiles(tiles, vectors, x))
    return found


def _best_dot(tiles: int, vectors: int, x: Layout) -> DotProduct:
    depth = -(-x.channels // GROUP)
    found = [
        DotProduct(rows, wide, tiles, vectors, x.stored, depth)
        for rows, wide in product(range(1, min(tiles, 14) + 1), range(1, min(vectors, 4) + 1))
        if rows * wide + wide + 1 <= REGISTERS
    ]
    return min(found, key=lambda p: p.cycles(vectors))


def _best_tiles(tiles: int, vectors: int, x: Layout) -> TileProduct:
    steps = -(-x.channels // DEPTH)
    found = [
        TileProduct(Blocking(True, rows, many, wide, False), tiles, vectors, x.stored, steps)
        for rows, (many, wide) in product(range(1, min(tiles, 16) + 1), ((2, 2), (1, 2), (1, 1)))
        if wide <= vectors
    ]
    return min(found, key=lambda p: p.cycles(vectors))


def _padded(weights: Array, outputs: int, channels: int) -> Array:
    """Return weights [parts, O, I] with zeros up to whole vectors."""
    _, have_outputs, have_channels = weights.shape
    missing = ((0, 0), (0, outputs - have_outputs), (0, channels - have_channels))
    return np.pad(weights, missing)


def _groups(all_vectors: int, vectors: int) -> Array:
    """Return the vectors of each group, [groups, vectors]; the last group is moved inwards."""
    firsts = range(0, all_vectors, vectors)
    return np.array([[min(i, all_vectors - vectors) + n for n in range(vectors)] for i in firsts])
