"""Population counts of NEON, a byte at a time (Arm ARM, CNT, UADDLP; VCNT and VPADDL of 32 bits).

Every step adds at most 8 to a byte for each pair of planes of its magnitude, so that a run of
additions fits 8 bits while 8 * additions <= 255: 31 of them. After a run, bytes of all magnitudes
2**e, relative to the smallest, become one sum of two neighbours in 16 bits,

    sum over e of 2**e * 2 * 255  <=  128 * 510  =  65280  <  2**16,

where ``most_weight`` keeps the sum of 2**e to 128, and its neighbours are added in 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.bitserial.planes import PlaneForm
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, in_registers, splat

BYTE = 8  # codes whose bits of one plane fill a byte


@dataclass(frozen=True, slots=True)
class ByteCounter:
    """CNT of NEON, of 64 or 32 ``bits``."""

    bits: int

    instruction: ClassVar[str] = "and+cnt+add"
    lanes: ClassVar[int] = 4
    counts: ClassVar[tuple[str, int]] = ("int8", neon.CODES)
    most_additions: ClassVar[int] = 255 // BYTE
    most_pairs: ClassVar[int] = 6
    most_weight: ClassVar[int] = ((1 << 16) - 1) // (2 * 255)
    packing: ClassVar[int] = 6

    def instructions(self, form: PlaneForm, planes: int) -> int:
        """Return what a step takes: flipping, then masking, counting and adding each digit."""
        if not form.masked:
            return 3 * planes
        return planes * (form.signed + 3 * len(form.factors))

    def packed(self, codes: Expr, planes: int) -> list[Expr]:
        """Return every bit at its place in a separate byte, and eight such bytes added."""
        halves = [T.Shuffle([codes], [*range(n, n + neon.CODES)]) for n in (0, neon.CODES)]
        vectors = [_placed(half, i) for i in range(planes) for half in halves]
        for _ in range(BYTE.bit_length() - 1):
            vectors = in_registers(_added_in_pairs(vectors))
        fours = in_registers([T.reinterpret("int32x4", vector) for vector in vectors])
        return [T.Shuffle([fours[i // 4]], [i % 4]) for i in range(planes)]

    def counted(self, bits: Expr) -> Expr:
        """Return the counts of bytes."""
        dtype, lanes = self.counts
        return call_intrinsic(
            "llvm.ctpop", f"{dtype}x{lanes}", T.reinterpret(f"{dtype}x{lanes}", bits)
        )

    def joined(self, counts: list[tuple[int, Expr]]) -> Expr:
        """Return sums of neighbours: the greatest magnitude first, shifted to meet the next one."""
        (highest, first), *rest = counts[::-1]
        total, last = neon.widened_pairs(self.bits, first, 8), highest
        for magnitude, count in rest:
            shift = splat(T.int16((last // magnitude).bit_length() - 1), 8)
            total = T.shift_left(total, shift) + neon.widened_pairs(self.bits, count, 8)
            last = magnitude
        four = neon.widened_pairs(self.bits, total, 4)
        return T.shift_left(four, splat(T.int32(last.bit_length() - 1), 4))


def _placed(codes: Expr, plane: int) -> Expr:
    """Return bytes that have the bit of ``plane`` at the place of their code among eight."""
    lanes, zero = neon.CODES, splat(T.int8(0), neon.CODES)
    places = T.Shuffle([_byte(k % BYTE) for k in range(lanes)], [*range(lanes)])
    bit = T.bitwise_and(codes, splat(_byte(plane), lanes))
    return T.Select(bit != zero, places, zero)


def _byte(place: int) -> Expr:
    """Return a byte with one bit."""
    return T.int8((1 << place) - (1 << BYTE if place == BYTE - 1 else 0))


def _added_in_pairs(vectors: list[Expr]) -> list[Expr]:
    """Return neighbours added, of two vectors each; the last one may come twice."""
    even = [*vectors, *vectors[-1:]] if len(vectors) % 2 else vectors
    pairs = zip(even[::2], even[1::2], strict=True)
    return [neon.neighbours(a, b, neon.CODES) for a, b in pairs]
