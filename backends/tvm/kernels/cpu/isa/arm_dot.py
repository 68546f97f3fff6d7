"""Products of ARM that take codes from any lane: sdot, usdot, smlal.

sdot adds four s8 * s8 products to an int32 lane without saturation, usdot four u8 * s8 ones (Arm
ARM, SDOT and USDOT). Without usdot, codes x beyond 127 are multiplied less 128, which flips their
highest bit:

    sum of x * w  =  sum of (x - 128) * w  +  128 * (sum of w),

and the last term is a constant that the accumulator starts with (``dot.shift_of``).

smlal of any NEON adds a product of two int16 to an int32 lane (Arm ARM, SMLAL by element; VMLAL of
32 bits): four products, a quarter of sdot, and exact for all int16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    call_intrinsic,
    cast,
    in_registers,
    splat,
)

Array: TypeAlias = NDArray[Any]
Operands: TypeAlias = Callable[[Expr], list[Expr]]  # from a step on

LANES = 4
HIGHEST_BITS = -0x7F7F7F80  # 0x80808080: of four codes


@dataclass(frozen=True, slots=True)
class Sdot:
    """SDOT of Armv8.2, or USDOT of Armv8.6, of ``unsigned`` codes."""

    unsigned: bool = False
    shift: int = 0  # what codes are multiplied less of: 0 or 128
    lanes: int = LANES
    vectors: int = 1
    dtype: str = "int8"
    elements: int = 16  # of one weight vector

    group: ClassVar[int] = 4
    temporaries: ClassVar[int] = 2
    product_cycles: ClassVar[float] = 0.5

    @property
    def instruction(self) -> str:
        """Of a step."""
        return "usdot" if self.unsigned else "sdot"

    @property
    def operand_cycles(self) -> float:
        """Flipping bits takes an instruction per load of codes."""
        return 0.5 if self.shift else 0.0

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 1, lanes * 4] of weights [..., lanes, 4]."""
        return weights.reshape(*weights.shape[:-2], 1, self.elements)

    def shifted(self, codes: Expr) -> Expr:
        """Return int32 vectors of four codes each as they are multiplied."""
        if not self.shift:
            return codes
        return T.bitwise_xor(codes, splat(T.int32(HIGHEST_BITS), self.lanes))

    def lane(self, codes: Expr, number: int) -> Expr:
        """Return the four codes of a lane in every lane: the instruction takes them from there."""
        four = T.Shuffle([codes], [number] * self.lanes)
        return T.reinterpret(f"int8x{self.elements}", four)

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        intrinsic = f"llvm.aarch64.neon.{self.instruction}"
        pair = (operands[0], weights[0]) if self.unsigned else (weights[0], operands[0])
        return call_intrinsic(intrinsic, f"int32x{self.lanes}", acc, *pair)


@dataclass(frozen=True, slots=True)
class Smlal:
    """SMLAL of int16: a step multiplies two codes with two vectors of weights."""

    lanes: int = LANES
    vectors: int = 1
    dtype: str = "int16"
    elements: int = 8  # of one weight vector: those of the first code, then of the second

    group: ClassVar[int] = 2
    temporaries: ClassVar[int] = 2
    instruction: ClassVar[str] = "smlal"
    product_cycles: ClassVar[float] = 2.0  # of processors without dot products
    operand_cycles: ClassVar[float] = 0.0

    def pack(self, weights: Array) -> Array:
        """Return int16 [..., 1, 2 * lanes] of weights [..., lanes, 2]."""
        return np.swapaxes(weights, -1, -2).reshape(*weights.shape[:-2], 1, self.elements)

    def shifted(self, codes: Expr) -> Expr:
        """Return int32 vectors of two codes each as they are multiplied."""
        return T.reinterpret(f"int16x{self.elements}", codes)

    def lane(self, codes: Expr, number: int) -> Expr:
        """Return each code of a lane four times: the instruction takes it from there."""
        first, second = ([2 * number + i] * self.lanes for i in range(self.group))
        return T.Shuffle([codes], first + second)

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the two products per lane."""
        for first in (0, self.lanes):
            half = [*range(first, first + self.lanes)]
            x, w = (T.Shuffle([each], half) for each in (*operands, *weights))
            acc = acc + cast("int32", self.lanes, x) * cast("int32", self.lanes, w)
        return acc


ByLane: TypeAlias = Sdot | Smlal  # instructions that take a code, or codes, from any lane


def add_by_lanes(
    dot: ByLane, acc: list[list[Buffer]], length: int, codes: Operands, weights: Operands
) -> None:
    """Add ``length`` steps to accumulators, by operand and vector.

    ``codes`` returns the four steps of codes from one on, of every operand; ``weights`` the vectors
    of one step. The instructions take four codes from any lane (Arm ARM, SDOT by element), so that
    one load of codes serves four steps.
    """
    whole, rest = divmod(length, LANES)
    if whole:
        with T.serial(0, whole) as n:
            _add_steps(dot, acc, (n * LANES, LANES), codes, weights)
    if rest:
        _add_steps(dot, acc, (whole * LANES, rest), codes, weights)


def _add_steps(
    dot: ByLane, acc: list[list[Buffer]], at: tuple[Expr, int], codes: Operands, weights: Operands
) -> None:
    first, count = at
    fours = in_registers([dot.shifted(four) for four in codes(first)])
    for lane in range(count):
        vectors = in_registers(weights(first + lane))
        for slots, four in zip(acc, fours, strict=True):
            operand = [dot.lane(four, lane)]
            for slot, weight in zip(slots, vectors, strict=True):
                assign(slot, dot.accumulate(slot[0], operand, [weight]))
