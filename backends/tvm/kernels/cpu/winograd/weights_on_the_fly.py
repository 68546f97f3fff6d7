"""Weights of Winograd convolution that are transformed where they are used.

G g G^T has more elements than g, and wider ones: 72 bytes for nine weights in F(4x4). A layer with
few pixels reads them once, so that it waits for memory. Here memory holds g alone, at 2, 4 or 8
bits, and a task transforms the kernels of one group of outputs into its second-level cache before
it multiplies. The transform works element by element, hence on whole vectors in the very order in
which the product reads its operand: ``product.pack`` lays each tap out as it would lay out a
position.

Additions wrap in the operand's type where ``proof`` has shown that every result fits there. Where
overflow steps take what does not, they saturate (VPADDSB, VPSUBSB): ``saturated_weights`` computes
what they leave in the same order of additions, and the overflow steps take the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    LINE,
    Buffer,
    Expr,
    call_intrinsic,
    in_registers,
    load,
    splat,
    store,
    vector,
)
from gmpq.backends.tvm.kernels.cpu.winograd.adder_graph import (
    WRAPPING,
    Arithmetic,
    both_counts,
    both_sides,
)
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import Transform

FIELDS = ((2, -2, 1), (4, -8, 7))  # bits, smallest and largest weight


@dataclass(frozen=True, slots=True)
class OnTheFlyWeights:
    """Kernels of ``taps`` weights, transformed by the task that needs them."""

    transform: Transform
    bits: int  # of one weight in memory
    lanes: int  # weights of one vector
    vectors: int  # of one group of outputs
    dtype: str  # of the operand
    saturates: bool = False

    def __str__(self) -> str:
        return f"{self.bits}-bit kernels transformed"

    @property
    def taps(self) -> int:
        """Weights of one kernel."""
        return self.transform.kernel * self.transform.kernel

    @property
    def fields(self) -> int:
        """Vectors that share their bytes in memory."""
        return 8 // self.bits

    @property
    def pitch(self) -> int:
        """Elements from one position to the next; a power of two would meet one set of a cache."""
        return self.vectors * self.lanes + LINE // np.dtype(self.dtype).itemsize

    @property
    def elements(self) -> int:
        """Transformed weights of one group."""
        return self.transform.positions * self.pitch

    @property
    def group_bytes(self) -> int:
        """Bytes of one group in memory."""
        return self.taps * self.vectors * self.lanes // self.fields

    def instructions(self) -> int:
        """Return about how many instructions transform one group."""
        unpacking = self.taps * (1 if self.bits == 8 else 3)
        sums = both_counts(self.transform.weight)
        return self.vectors * (unpacking + sums + self.transform.positions)

    def pack(self, taps: Array) -> Array:
        """Return uint8 [groups, vectors / fields, taps, lanes] of int8 [taps, groups, ...]."""
        split = taps.reshape(self.taps, taps.shape[1], -1, self.fields, self.lanes)
        raised = split.astype(np.int16) + self._raised
        places = self.bits * np.arange(self.fields)[:, None]
        joined = ((raised & ((1 << self.bits) - 1)) << places).sum(axis=3)
        return np.ascontiguousarray(joined.transpose(1, 2, 0, 3).astype(np.uint8))

    @property
    def _raised(self) -> int:
        """What makes the weights of a field whole numbers; bytes keep their sign."""
        return 0 if self.bits == 8 else 1 << (self.bits - 1)

    def write(self, packed: Buffer, u: Buffer, group: Expr) -> None:
        """Write the transformed weights of ``group`` into ``u`` [positions, vectors, lanes]."""
        rows = self.transform.kernel
        with T.serial(0, self.vectors // self.fields) as chunk:
            first = group * self.group_bytes + chunk * (self.taps * self.lanes)
            for field in range(self.fields):
                taps = [self._tap(packed, first + t * self.lanes, field) for t in range(self.taps)]
                kernel = [taps[i * rows : (i + 1) * rows] for i in range(rows)]
                arithmetic = self._saturating() if self.saturates else WRAPPING
                rows_of_sums = both_sides(self.transform.weight, kernel, arithmetic)
                values = chain.from_iterable(rows_of_sums)
                for position, value in enumerate(values):
                    place = (chunk * self.fields + field) * self.lanes
                    store(u, position * self.pitch + place, value, self.lanes)

    def _saturating(self) -> Arithmetic:
        kind = vector(self.dtype, self.lanes)

        def add(a: Expr, b: Expr) -> Expr:
            return call_intrinsic(f"llvm.sadd.sat.v{self.lanes}i8", kind, a, b)

        def subtract(a: Expr, b: Expr) -> Expr:
            return call_intrinsic(f"llvm.ssub.sat.v{self.lanes}i8", kind, a, b)

        return Arithmetic(add, subtract, in_registers)

    def _tap(self, packed: Buffer, place: Expr, field: int) -> Expr:
        """Return one vector of weights in the operand's type."""
        lanes, kind = self.lanes, f"{self.dtype}x{self.lanes}"
        codes = load(packed, place, lanes)
        if self.bits == 8:
            return T.Cast(kind, T.reinterpret(f"int8x{lanes}", codes))
        shifted = T.shift_right(codes, splat(T.uint8(self.bits * field), lanes)) if field else codes
        digits = T.bitwise_and(shifted, splat(T.uint8((1 << self.bits) - 1), lanes))
        centred = digits - splat(T.uint8(self._raised), lanes)
        return T.Cast(kind, T.reinterpret(f"int8x{lanes}", centred))


def saturated_weights(transform: Transform, codes: Array) -> Array:
    """Return int8 [positions, O, I]: what saturating additions make of ``codes`` [O, I, kH, kW]."""
    taps = [[codes[:, :, i, j] for j in range(codes.shape[3])] for i in range(codes.shape[2])]
    rows = both_sides(transform.weight, taps, Arithmetic(_add, _subtract, list))
    return np.stack([*chain.from_iterable(rows)])


def _add(a: Array, b: Array) -> Array:
    return np.clip(a.astype(np.int16) + b, -128, 127).astype(np.int8)


def _subtract(a: Array, b: Array) -> Array:
    return np.clip(a.astype(np.int16) - b, -128, 127).astype(np.int8)


def on_the_fly_weights(
    transform: Transform, codes: Array, form: tuple[int, int, str], *, saturates: bool
) -> OnTheFlyWeights:
    """Return the weights in the fewest bits that hold ``codes`` [O, I, kH, kW] by whole vectors.

    ``form`` is the weights of a vector, the vectors of a group, and the operand's type.
    """
    lanes, vectors, dtype = form
    low, high = int(codes.min()), int(codes.max())
    bit_widths = [
        bits
        for bits, smallest, largest in FIELDS
        if smallest <= low and high <= largest and vectors % (8 // bits) == 0
    ]
    bits = min(bit_widths, default=8)
    return OnTheFlyWeights(transform, bits, lanes, vectors, dtype, saturates)
