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

The transform waits for its stores into the second-level cache while nothing multiplies. Where the
kernels of the next group are transformed between the products of this one, vector by vector, both
go on at once; transformed kernels of two groups lie in memory then.
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
    prefetch,
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
CHUNKS_AHEAD = 8  # from the chunk that is transformed to the one that is asked for


@dataclass(frozen=True, slots=True)
class OnTheFlyWeights:
    """Kernels of ``taps`` weights, transformed by the task that needs them."""

    transform: Transform
    bits: int  # of one weight in memory
    lanes: int  # weights of one vector
    vectors: int  # of one group of outputs
    dtype: str  # of the operand
    saturates: bool = False
    interleaved: bool = False  # with the products of the group before

    def __str__(self) -> str:
        text = f"{self.bits}-bit kernels transformed"
        return f"{text} between products" if self.interleaved else text

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
    def buffers(self) -> int:
        """Groups whose transformed weights are kept."""
        return 2 if self.interleaved else 1

    @property
    def chunks(self) -> int:
        """Parts of one group in memory, of as many vectors as there are fields."""
        return self.vectors // self.fields

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
        with T.serial(0, self.chunks) as chunk:
            for field in range(self.fields):
                self.write_vector(packed, u, (group, chunk, field), 0)

    def write_vector(
        self, packed: Buffer, u: Buffer, source: tuple[Expr, Expr, int], start: Expr
    ) -> None:
        """Write one vector of each position into ``u`` from ``start``.

        ``source`` is a group, a chunk of it, and a field of that.
        """
        rows, (group, chunk, field) = self.transform.kernel, source
        first = group * self.group_bytes + chunk * (self.taps * self.lanes)
        taps = [self._tap(packed, first + t * self.lanes, field) for t in range(self.taps)]
        kernel = [taps[i * rows : (i + 1) * rows] for i in range(rows)]
        arithmetic = self._saturating() if self.saturates else WRAPPING
        values = chain.from_iterable(both_sides(self.transform.weight, kernel, arithmetic))
        place = start + (chunk * self.fields + field) * self.lanes
        for position, value in enumerate(values):
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


@dataclass(frozen=True, slots=True)
class NextWeights:
    """Kernels of the next group, which the register tiles of this one transform in turn."""

    weights: OnTheFlyWeights
    packed: Buffer
    u: Buffer
    start: Expr  # in ``u``
    group: Expr
    chunks: Expr  # none where no group follows
    tiles: int  # register tiles of a group

    @property
    def of_tile(self) -> int:
        """Chunks of one register tile; the last tiles may find none left."""
        return -(-self.weights.chunks // self.tiles)

    @property
    def runs(self) -> int:
        """Runs of products of one register tile: a vector follows each."""
        return self.of_tile * self.weights.fields

    def transform(self, chunk: Expr, field: int) -> None:
        """Write a vector of each position, and ask for a part of a later chunk of ``packed``."""
        weights, lines = self.weights, self.weights.taps * self.weights.lanes // LINE
        later = self.group * weights.group_bytes + (chunk + CHUNKS_AHEAD) * (lines * LINE)
        for line in range(field * lines // weights.fields, (field + 1) * lines // weights.fields):
            prefetch(self.packed, later + line * LINE)
        with T.If(chunk < self.chunks), T.Then():
            weights.write_vector(self.packed, self.u, (self.group, chunk, field), self.start)


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
