"""The code of fully connected layers with packed weights (``gemv`` has the algebra)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import assert_never

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import Epilogue
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    LINE,
    Buffer,
    Expr,
    assign,
    c_function,
    call_intrinsic,
    clamped_start,
    load,
    prefetch,
    registers,
    splat,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd, Vpmaddubsw
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import GROUP

STEPS = 8  # of four inputs: the most that a vector of one-bit digits holds
SHORT = 4  # of them, whose sums of pairs int16 holds
INPUTS = STEPS * GROUP
AHEAD = 4096  # bytes; processors fetch ahead on their own, but not beyond a page


@dataclass(frozen=True, slots=True)
class GemvShape:
    """Sizes that the loops run over."""

    x: Layout
    y: Layout
    dot: Vpdpbusd | Vpmaddubsw
    digits: tuple[int, ...]
    smallest: int  # weight
    vectors: int  # of outputs, of one task

    @property
    def rounds(self) -> int:
        """Rounds of ``INPUTS`` inputs."""
        return -(-self.x.channels // INPUTS)

    @property
    def all_vectors(self) -> int:
        """Vectors of outputs."""
        return -(-self.y.channels // self.dot.lanes)

    @property
    def blocks(self) -> int:
        """Tasks of one image."""
        return -(-self.all_vectors // self.vectors)

    @property
    def round_bytes(self) -> int:
        """Bytes of the weights of a round."""
        return self.vectors * sum(self.digits) * self.dot.elements


@dataclass(frozen=True, slots=True)
class GemvKernel:
    """The function of one block size."""

    shape: GemvShape
    epilogue: Epilogue

    @property
    def lanes(self) -> int:
        """Outputs of a vector."""
        return self.shape.dot.lanes

    @property
    def kind(self) -> str:
        """Type of a vector."""
        return f"int32x{self.lanes}"

    def function(self) -> PrimFunc:
        """Return ``f(x, ones, weights, start, factor, outputs)``."""
        shape, lanes = self.shape, self.lanes
        outputs = shape.all_vectors * lanes

        def body(x_: Expr, *others: Expr) -> None:
            (ones_, w_, start_, factor_), arguments = self.epilogue.split(others)
            x = view(x_, "int32", shape.x.size_bytes // GROUP)
            ones = view(ones_, "int32", self._ones * lanes)
            w = view(w_, "int32", shape.blocks * shape.rounds * shape.round_bytes // GROUP)
            start = view(start_, "int32", outputs)
            bound = arguments.bind(factor_, outputs)
            with T.parallel(0, shape.x.batch * shape.blocks) as item:
                image, block = item // shape.blocks, item % shape.blocks
                corner = (shape.x.origin + image * shape.x.image) // GROUP
                total = self._sum(x, ones, corner)
                acc = self._multiply(x, w, corner, block)
                first = clamped_start(block, shape.vectors, shape.all_vectors) * lanes
                less = splat(total * shape.smallest, lanes)
                sums = [
                    load(start, first + v * lanes, lanes) + less + self._joined(slots)
                    for v, slots in enumerate(acc)
                ]
                bound.store([PixelSums((image, 0, 0), sums)], first, lanes)

        constants = (("ones", "int32"), ("w", "int32"), ("start", "int32"), ("factor", "float32"))
        return c_function(self.epilogue.parameters(("x", "int32"), constants), body)

    @property
    def _chains(self) -> int:
        """Accumulators of a digit: a product of VNNI waits for the one before it."""
        return 2 if isinstance(self.shape.dot, Vpdpbusd) else 1

    @property
    def _ones(self) -> int:
        """Vectors of ones."""
        return -(-self.shape.rounds * INPUTS // self.shape.dot.elements)

    def _sum(self, x: Buffer, ones: Buffer, corner: Expr) -> Expr:
        """Return the sum of the codes of one image."""
        (sums,) = registers(1, self.kind)
        assign(sums, splat(T.int32(0), self.lanes))
        with T.serial(0, self._ones) as i:
            codes = load(x, corner + i * self.lanes, self.lanes)
            assign(sums, self._add(sums[0], [(codes, load(ones, i * self.lanes, self.lanes))]))
        (total,) = registers(1, "int32")
        assign(total, call_intrinsic("llvm.vector.reduce.add", "int32", sums[0]))
        return total[0]

    def _multiply(self, x: Buffer, w: Buffer, corner: Expr, block: Expr) -> list[list[Buffer]]:
        """Return the accumulators of each digit, by vector."""
        shape, chains = self.shape, self._chains
        count = chains * len(shape.digits)
        acc = [registers(count, self.kind) for _ in range(shape.vectors)]
        for slot in (slot for slots in acc for slot in slots):
            assign(slot, splat(T.int32(0), self.lanes))
        with T.serial(0, shape.rounds) as number:
            codes = registers(STEPS, self.kind)
            for step, slot in enumerate(codes):
                assign(slot, splat(x[corner + number * STEPS + step], self.lanes))
            place = (block * shape.rounds + number) * (shape.round_bytes // GROUP)
            for line in range(0, shape.round_bytes, LINE):
                prefetch(w, place + (AHEAD + line) // GROUP)
            for slots in acc:
                for d, bits in enumerate(shape.digits):
                    self._digits(slots[chains * d : chains * (d + 1)], codes, w, place, bits)
                    place = place + STEPS * bits // 8 * self.lanes
        return acc

    def _digits(
        self, slots: list[Buffer], codes: list[Buffer], w: Buffer, place: Expr, bits: int
    ) -> None:
        """Multiply one vector's digits of ``bits`` bits of a round."""
        per_vector = 8 // bits
        weights = registers(STEPS // per_vector, self.kind)
        for number, slot in enumerate(weights):
            assign(slot, load(w, place + number * self.lanes, self.lanes))
        pairs = [
            (code[0], self._digit(weights[step // per_vector][0], step % per_vector, bits))
            for step, code in enumerate(codes)
        ]
        for number in range(STEPS // SHORT):
            slot = slots[number % len(slots)]
            assign(slot, self._add(slot[0], pairs[number * SHORT : (number + 1) * SHORT]))

    def _digit(self, weights: Expr, part: int, bits: int) -> Expr:
        mask = splat(T.int32(((1 << bits) - 1) * 0x01010101), self.lanes)
        return T.bitwise_and(T.shift_right(weights, splat(T.int32(part * bits), self.lanes)), mask)

    def _add(self, acc: Expr, steps: list[tuple[Expr, Expr]]) -> Expr:
        """Return ``acc`` plus the products of at most ``SHORT`` steps of codes and digits."""
        dot = self.shape.dot
        kind = f"int8x{dot.elements}"
        operands = [([T.reinterpret(kind, c)], [T.reinterpret(kind, d)]) for c, d in steps]
        match dot:
            case Vpdpbusd():
                for codes, digits in operands:
                    acc = dot.accumulate(acc, codes, digits)
                return acc
            case Vpmaddubsw():
                return acc + dot.widen(reduce(add, (dot.pairs(*each) for each in operands)))
            case _:
                assert_never(dot)

    def _joined(self, slots: list[Buffer]) -> Expr:
        """Return the sum of the products of all digits."""
        low, value = 0, splat(T.int32(0), self.lanes)
        for d, bits in enumerate(self.shape.digits):
            chains = slots[self._chains * d : self._chains * (d + 1)]
            total = reduce(add, (slot[0] for slot in chains))
            value = value + T.shift_left(total, splat(T.int32(low), self.lanes))
            low += bits
        return value
