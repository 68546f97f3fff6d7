"""Population counts of AVX-512, a lane of 32 bits at a time (Intel SDM, VPOPCNTD).

The bits of a lane are counted together, so that an accumulator holds 2**26 counts of at most 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.bitserial.planes import WORD, PlaneForm
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, splat


@dataclass(frozen=True, slots=True)
class LaneCounter:
    """VPOPCNTD of AVX-512 VPOPCNTDQ."""

    instruction: ClassVar[str] = "vpandd+vpopcntd+vpaddd"  # or vpternlogd, which flips and masks
    lanes: ClassVar[int] = 16  # of 32 bits
    counts: ClassVar[tuple[str, int]] = ("int32", 16)  # element type and lanes of an accumulator
    most_additions: ClassVar[int] = (1 << 31) // WORD - 1  # that an accumulator holds
    most_pairs: ClassVar[int] = 4  # of planes; beyond, products of bytes are faster
    most_weight: ClassVar[int] = 1 << 31  # of all magnitudes together, over the smallest
    packing: ClassVar[int] = 3  # instructions that pack a plane of a word

    def instructions(self, form: PlaneForm, planes: int) -> int:
        """Return what a step takes: one operation on three vectors flips and masks."""
        return 3 * planes * len(form.factors)

    def packed(self, codes: Expr, planes: int) -> list[Expr]:
        """Return the highest bits of 32 codes, shifted there."""
        found = []
        for i in range(planes):
            raised = T.shift_left(T.reinterpret("int16x16", codes), splat(T.int16(7 - i), 16))
            signs = T.reinterpret("int8x32", raised)
            found.append(call_intrinsic("llvm.x86.avx2.pmovmskb", "int32", signs))
        return found

    def counted(self, bits: Expr) -> Expr:
        """Return the counts of lanes."""
        return call_intrinsic("llvm.ctpop", "int32x16", bits)

    def joined(self, counts: list[tuple[int, Expr]]) -> Expr:
        """Return the sum of shifted counts."""
        total = splat(T.int32(0), self.lanes)
        for magnitude, count in counts:
            shift = splat(T.int32(magnitude.bit_length() - 1), self.lanes)
            total = total + T.shift_left(count, shift)
        return total
