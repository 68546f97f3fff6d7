"""The loops of Winograd products in bytes.

A short run is added tile by tile, with its weights in registers,

    acc32 = acc32 + vpmaddwd(vpmaddubsw(x0, w0) + vpmaddubsw(x1, w1) + ..., 1)

and a long one has an accumulator of int16 for every sum. Then there are no registers left for
int32, which wait in M from run to run. Overflow steps are runs of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import add

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    clamped_start,
    in_registers,
    load,
    registers,
    store,
)
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import ProductMemory, steps
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import ByteProduct
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_runs import LONGEST_SHORT, first_steps


def multiply(product: ByteProduct, memory: ProductMemory, weights: Expr) -> None:
    """Write M of all positions for a group of outputs, whose weights begin at ``weights``."""
    runs, positions, first = product.runs, len(product.runs.lengths), 0
    overflow = 2 * positions + memory.group * sum(runs.overflow_steps)
    for length, members in groupby(product.order, runs.lengths.__getitem__):
        overflow_steps, count = runs.overflow_steps[product.order[first]], len([*members])
        with T.serial(first, first + count) as number:
            places = memory.table[number], weights + memory.table[positions + number]
            table = overflow + (number - first) * overflow_steps
            _position(
                product, memory, (*in_registers([*places]), table, number), length, overflow_steps
            )
        first, overflow = first + count, overflow + count * overflow_steps


def _position(
    product: ByteProduct,
    memory: ProductMemory,
    at: tuple[Expr, Expr, Expr, Expr],
    length: int,
    overflow_steps: int,
) -> None:
    """Write M of one position, given its weights, overflow steps in the table, and number."""
    position, weights, table, number = at
    with T.serial(0, product.row_blocks) as block:
        first = clamped_start(block, product.rows, product.tiles)
        codes = position * product.input_pitch + first * product.pixel
        place = position * product.output_pitch + first * (product.vectors * product.lanes)
        in_memory = LONGEST_SHORT < length < product.depth
        kind = f"int32x{product.lanes}"
        acc = None if in_memory else registers(product.rows * product.vectors, kind)
        tile = _Tile(product, memory, place, acc, number * product.row_blocks + block)
        _add_all(tile, (codes, weights), length)
        with T.serial(0, overflow_steps) as n:
            there = codes + memory.table[table + n]
            here = weights + product.block_elements + n * product.step_elements
            _add_short(tile, (there, here), 1, first=False)
        tile.store_sums()


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A register tile; where ``acc`` is None its sums lie in M."""

    product: ByteProduct
    memory: ProductMemory
    place: Expr
    acc: list[Buffer] | None
    number: Expr  # among those of a group

    def prefetch(self, part: Expr, parts: int) -> None:
        """Ask for one of equal parts of the weights that it has to ask for."""
        if self.memory.prefetch is not None:
            self.memory.prefetch.fetch(self.number, part, parts)

    def add(self, slot: int, value: Expr, *, first: bool) -> None:
        """Add to one of the sums; ``first`` begins it."""
        m, lanes = self.memory.m, self.product.lanes
        here = self.place + slot * lanes
        if self.acc is not None:
            assign(self.acc[slot], value if first else self.acc[slot][0] + value)
        else:
            store(m, here, value if first else load(m, here, lanes) + value, lanes)

    def store_sums(self) -> None:
        """Store the sums in M."""
        lanes = self.product.lanes
        for slot, acc in enumerate(self.acc or ()):
            store(self.memory.m, self.place + slot * lanes, acc[0], lanes)

    def codes(self, place: Expr, row: int, step: Expr) -> Expr:
        """Return the four codes of a step in every lane."""
        word = self.memory.v[place + row * self.product.pixel + step]
        return self.product.dot.operands(word)[0]

    def weights(self, place: Expr, step: Expr) -> list[Expr]:
        """Return the weights of a step."""
        product, elements = self.product, self.product.dot.elements
        first = place + step * product.step_elements
        places = (first + n * elements for n in range(product.vectors))
        return in_registers([load(self.memory.u, place, elements) for place in places])


def _add_all(tile: _Tile, at: tuple[Expr, Expr], length: int) -> None:
    """Write the sums of all steps but the overflow ones; what is left over is the first run."""
    product, (codes, weights) = tile.product, at
    firsts = first_steps(product.depth, length)
    begun = product.depth - (len(firsts) - 1) * length
    tile.prefetch(0, len(firsts))
    _add_run(tile, at, begun, first=True)
    with T.serial(0, len(firsts) - 1) as j:
        tile.prefetch(j + 1, len(firsts))
        step = j * length + begun
        there, here = in_registers([codes + step, weights + step * product.step_elements])
        _add_run(tile, (there, here), length, first=False)


def _add_run(tile: _Tile, at: tuple[Expr, Expr], length: int, *, first: bool) -> None:
    adding = _add_short if length <= LONGEST_SHORT else _add_long
    adding(tile, at, length, first=first)


def _add_short(tile: _Tile, at: tuple[Expr, Expr], length: int, *, first: bool) -> None:
    """Add a run tile by tile."""
    dot, vectors, (codes, weights) = tile.product.dot, tile.product.vectors, at
    all_weights = [tile.weights(weights, k) for k in range(length)]
    for row in range(tile.product.rows):
        operands = in_registers([tile.codes(codes, row, k) for k in range(length)])
        for n in range(vectors):
            pairs = zip(operands, all_weights, strict=True)
            total = reduce(add, [dot.pairs([x], [w[n]]) for x, w in pairs])
            tile.add(row * vectors + n, dot.widen(total), first=first)


def _add_long(tile: _Tile, at: tuple[Expr, Expr], length: int, *, first: bool) -> None:
    """Add a run in int16, then widen."""
    product, (codes, weights) = tile.product, at
    slots = product.rows * product.vectors
    short = registers(slots, f"int16x{2 * product.lanes}")
    for k, begins in steps(length):
        vectors = tile.weights(weights, k)
        for row in range(product.rows):
            (operand,) = in_registers([tile.codes(codes, row, k)])
            for n, weight in enumerate(vectors):
                slot = short[row * product.vectors + n]
                pairs = product.dot.pairs([operand], [weight])
                assign(slot, pairs if begins else slot[0] + pairs)
    for slot in range(slots):
        tile.add(slot, product.dot.widen(short[slot][0]), first=first)
