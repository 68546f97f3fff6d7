"""Dot products of ARM: sdot of Armv8.2 and usdot of Armv8.6.

sdot adds four s8 * s8 products to an int32 lane without saturation, usdot four u8 * s8 ones (Arm
ARM, SDOT and USDOT). Without usdot, codes x beyond 127 are multiplied less 128, which flips their
highest bit:

    sum of x * w  =  sum of (x - 128) * w  +  128 * (sum of w),

and the last term is a constant that the accumulator starts with (``dot.shift_of``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.script import Expr, pure, splat

Array: TypeAlias = NDArray[Any]

HIGHEST_BITS = -0x7F7F7F80  # 0x80808080: of four codes


@dataclass(frozen=True, slots=True)
class Sdot:
    """Armv8.2 dot products, or with ``unsigned`` codes those of Armv8.6."""

    unsigned: bool = False
    shift: int = 0  # what codes are multiplied less of: 0 or 128
    lanes: int = 4
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
        """Flipping bits takes an instruction per operand."""
        return 0.5 if self.shift else 0.0

    def pack(self, weights: Array) -> Array:
        """Return int8 [..., 1, lanes * 4] of weights [..., lanes, 4]."""
        return weights.reshape(*weights.shape[:-2], 1, self.elements)

    def operands(self, codes: Expr) -> list[Expr]:
        """Return the four codes in every lane."""
        shifted = T.bitwise_xor(codes, T.int32(HIGHEST_BITS)) if self.shift else codes
        return [T.reinterpret(f"int8x{self.elements}", splat(shifted, self.lanes))]

    def accumulate(self, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
        """Return ``acc`` plus the four products per lane."""
        intrinsic = f"llvm.aarch64.neon.{self.instruction}"
        return pure(intrinsic, f"int32x{self.lanes}", acc, operands[0], weights[0])
