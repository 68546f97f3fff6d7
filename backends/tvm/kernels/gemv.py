"""Fully connected layers whose weights are read packed, and unpacked in registers.

At batch 1 such a layer is as fast as its weights can be read. With w bits, digits of 4, 2 and 1
bits are packed without gaps, up to six bits in all. With the smallest weight -m,

    w = sum over digits d of 2**s_d * digit_d  -  m,
    acc = bias - z * sum of w  -  m * sum of x  +  sum over d of 2**s_d * (x dot digit_d).

A digit lies in 0..15 and so is a signed byte for vpdpbusd, whose sums of four are at most
4 * 255 * 15. ``refuses`` proves that all terms together, without their signs, stay below 2**31.
``sum of x`` is a product by ones, and by zeros where memory holds padding channels, once per task.

A vector of 64 bytes with digits of b bits holds 8 / b steps of sixteen outputs times four inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.dot import Vnni
from gmpq.backends.tvm.epilogue import Finish
from gmpq.backends.tvm.groups import PixelSums
from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site, streamed_cycles
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.layout import GROUP, VECTOR, Layout
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    inwards,
    load,
    pure,
    put,
    registers,
    splat,
    view,
)
from gmpq.ir import Linear

DIGITS = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2)}  # by bits, the lowest first
STEPS = 8  # of four inputs: a vector of one-bit digits holds so many
INPUTS = STEPS * GROUP
BYTES = 64
FEWEST_BYTES = 64 << 10  # of weights; fewer stay in caches, from where bytes need no unpacking


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that the loops run over."""

    x: Layout
    y: Layout
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
        return -(-self.y.channels // VECTOR)

    @property
    def blocks(self) -> int:
        """Tasks of one image."""
        return -(-self.all_vectors // self.vectors)

    @property
    def round_bytes(self) -> int:
        """Bytes of the weights of a round."""
        return self.vectors * sum(self.digits) * BYTES


def refuses(site: Site) -> str | None:
    """Return why packed weights are of no use, or not exact."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Linear)
    if not {"avx512vnni", "avx512bw"} <= site.target.features:
        return "needs AVX-512 VNNI"
    bits = _bits(node.weight.codes)
    if bits not in DIGITS:
        return f"has weights of {bits} bits: bytes are read as fast"
    if node.weight.codes.size < FEWEST_BYTES:
        return f"has {node.weight.codes.size} weights: caches hold them"
    start, _ = start_and_factor(node.weight, q, site.output.q)
    codes = node.weight.codes.shape[1] * max(q.high, q.zero_point)
    digits = codes * ((1 << bits) - int(node.weight.codes.min()))
    largest = int(np.abs(start.astype(np.int64)).max()) + digits
    return None if largest < 1 << 31 else f"may sum up to {largest}, beyond int32"


def _bits(codes: Array) -> int:
    """Return the bits of the codes above the smallest."""
    return max(1, (int(codes.max()) - int(codes.min())).bit_length())


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return blocks of four vectors of outputs, and of two."""
    node, x, y = site.node, site.inputs[0].codes, site.output.codes
    assert isinstance(node, Linear)
    digits, smallest = DIGITS[_bits(node.weight.codes)], int(node.weight.codes.min())
    most = -(-y.channels // VECTOR)
    shapes = [Shape(x, y, digits, smallest, vectors) for vectors in (4, 2) if vectors <= most]
    shapes = shapes or [Shape(x, y, digits, smallest, 1)]
    found = [(shape, _cycles(site, shape)) for shape in shapes]
    text = "+".join(str(digit) for digit in digits) + " bits"
    work = site.work(Vnni.instruction, len(digits))
    return tuple(
        Candidate(f"{text}, {shape.vectors} vectors", cycles, partial(build, site, shape), work)
        for shape, cycles in sorted(found, key=lambda pair: pair[1])
    )


def _cycles(site: Site, shape: Shape) -> float:
    """Return predicted cycles: two instructions a cycle, or as the weights arrive."""
    unpacking = sum(2 * STEPS - STEPS * digit / 8 for digit in shape.digits)
    instructions = shape.vectors * (unpacking + len(shape.digits) * STEPS) + STEPS
    round_cycles = max(instructions / 2, streamed_cycles(site, shape.round_bytes))
    return shape.x.batch * shape.blocks * (shape.rounds * round_cycles + 20 * shape.vectors)


def build(site: Site, shape: Shape) -> Call:
    """Return the call of one block size."""
    node = site.node
    assert isinstance(node, Linear)
    start, factor = start_and_factor(node.weight, site.inputs[0].q, site.output.q)
    rest = (0, shape.all_vectors * VECTOR - len(start))
    ones = np.arange(shape.rounds * INPUTS) < shape.x.channels
    padded = np.append(ones, np.zeros(-len(ones) % BYTES)).astype(np.int8)
    constants = (
        padded,
        packed(node.weight.codes, shape),
        np.pad(start, rest),
        np.pad(factor, rest),
    )
    return site.call(_Kernel(shape, site.finish).function(), constants)


def packed(codes: Array, shape: Shape) -> Array:
    """Return uint8 weights [blocks, rounds, bytes of a round] of codes [O, I]."""
    outputs, inputs = codes.shape
    raised = np.full((shape.all_vectors * VECTOR, shape.rounds * INPUTS), 0, np.uint8)
    raised[:outputs, :inputs] = codes.astype(np.int16) - shape.smallest
    first = np.minimum(np.arange(shape.blocks) * shape.vectors, shape.all_vectors - shape.vectors)
    lanes = first[:, None] * VECTOR + np.arange(shape.vectors * VECTOR)
    blocks = raised[lanes].reshape(shape.blocks, shape.vectors, VECTOR, shape.rounds, STEPS, GROUP)
    steps = blocks.transpose(0, 3, 1, 4, 2, 5).reshape(
        *blocks.shape[:1], shape.rounds, -1, STEPS, BYTES
    )
    parts, low = [], 0
    for bits in shape.digits:
        digit = (steps >> low) & ((1 << bits) - 1)
        shared = digit.reshape(*digit.shape[:3], STEPS * bits // 8, 8 // bits, BYTES)
        places = (np.arange(8 // bits, dtype=np.uint8) * bits)[:, None]
        parts.append((shared << places).sum(axis=4, dtype=np.uint8))
        low += bits
    return np.concatenate(parts, axis=3)  # [blocks, rounds, vectors, vectors of a round, 64]


FAMILY = Family("gemv", (Linear,), candidates, refuses)


# --- the code ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kernel:
    shape: Shape
    finish: Finish

    def function(self) -> PrimFunc:
        """Return ``f(x, ones, weights, start, factor, outputs)``."""
        shape, outputs = self.shape, self.shape.all_vectors * VECTOR

        def body(x_: Expr, *others: Expr) -> None:
            (ones_, w_, start_, factor_), ends = self.finish.split(others)
            x = view(x_, "int32", shape.x.size_bytes // GROUP)
            ones = view(ones_, "int32", -(-shape.rounds * INPUTS // BYTES) * VECTOR)
            w = view(w_, "int32", shape.blocks * shape.rounds * shape.round_bytes // GROUP)
            start = view(start_, "int32", outputs)
            end = ends.bind(factor_, outputs)
            with T.parallel(0, shape.x.batch * shape.blocks) as item:
                image, block = item // shape.blocks, item % shape.blocks
                corner = (shape.x.origin + image * shape.x.image) // GROUP
                total = self._sum(x, ones, corner)
                acc = self._multiply(x, w, corner, block)
                first = inwards(block, shape.vectors, shape.all_vectors) * VECTOR
                less = splat(total * shape.smallest, VECTOR)
                sums = [
                    load(start, first + v * VECTOR, VECTOR) + less + self._joined(slots)
                    for v, slots in enumerate(acc)
                ]
                end.put([PixelSums((image, 0, 0), sums)], first, VECTOR)

        constants = (("ones", "int32"), ("w", "int32"), ("start", "int32"), ("factor", "float32"))
        return c_function(self.finish.parameters(("x", "int32"), constants), body)

    def _sum(self, x: Buffer, ones: Buffer, corner: Expr) -> Expr:
        """Return the sum of the codes of one image."""
        (lanes,) = registers(1, "int32x16")
        put(lanes, splat(T.int32(0), VECTOR))
        with T.serial(0, -(-self.shape.rounds * INPUTS // BYTES)) as i:
            codes = load(x, corner + i * VECTOR, VECTOR)
            put(lanes, _dot(lanes[0], codes, load(ones, i * VECTOR, VECTOR)))
        (total,) = registers(1, "int32")
        put(total, pure("llvm.vector.reduce.add", "int32", lanes[0]))
        return total[0]

    def _multiply(self, x: Buffer, w: Buffer, corner: Expr, block: Expr) -> list[list[Buffer]]:
        """Return two accumulators for each digit, by vector."""
        shape = self.shape
        acc = [registers(2 * len(shape.digits), "int32x16") for _ in range(shape.vectors)]
        for slot in (slot for slots in acc for slot in slots):
            put(slot, splat(T.int32(0), VECTOR))
        with T.serial(0, shape.rounds) as number:
            codes = registers(STEPS, "int32x16")
            for step, slot in enumerate(codes):
                put(slot, splat(x[corner + number * STEPS + step], VECTOR))
            place = (block * shape.rounds + number) * (shape.round_bytes // GROUP)
            for slots in acc:
                for d, bits in enumerate(shape.digits):
                    self._digits(slots[2 * d : 2 * d + 2], codes, w, place, bits)
                    place = place + STEPS * bits // 8 * VECTOR
        return acc

    def _digits(
        self, slots: list[Buffer], codes: list[Buffer], w: Buffer, place: Expr, bits: int
    ) -> None:
        """Multiply one vector's digits of ``bits`` bits of a round."""
        mask = splat(T.int32(((1 << bits) - 1) * 0x01010101), VECTOR)
        per_vector = 8 // bits
        (weights,) = registers(1, "int32x16")
        for step, code in enumerate(codes):
            number, part = divmod(step, per_vector)
            if part == 0:
                put(weights, load(w, place + number * VECTOR, VECTOR))
            shifted = T.shift_right(weights[0], splat(T.int32(part * bits), VECTOR))
            digit = T.bitwise_and(shifted, mask)
            slot = slots[step % 2]
            put(slot, _dot(slot[0], code[0], digit))

    def _joined(self, slots: list[Buffer]) -> Expr:
        """Return the sum of the products of all digits."""
        low, value = 0, splat(T.int32(0), VECTOR)
        for d, bits in enumerate(self.shape.digits):
            both = slots[2 * d][0] + slots[2 * d + 1][0]
            value = value + T.shift_left(both, splat(T.int32(low), VECTOR))
            low += bits
        return value


def _dot(acc: Expr, codes: Expr, weights: Expr) -> Expr:
    sides = [T.reinterpret("int8x64", side) for side in (codes, weights)]
    return pure("llvm.x86.avx512.vpdpbusd.512", "int32x16", acc, *sides)
