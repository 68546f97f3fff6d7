"""The ways from four vectors of accumulators to one of codes, by AVX-512 BW.

- ``ByProduct``: float32(acc) * factor, rounded (``narrowing``);
- ``ByFma``: one operation on the accumulator's bits (``requant_by_fma``);
- ``InInt16``: few bits (``requant_in_int16``).

Each proves itself for a layer. Codes come in the order of the instructions, and constants are read
group by group: memory holds them for four vectors of accumulators in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import (
    TOGETHER,
    VPACKSSDW,
    clipped,
    narrowed,
    to_bytes,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import accumulators
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import FusedScale, fused_scale
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_in_int16 import Int16Scale, int16_scale
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    call_intrinsic,
    cast,
    in_registers,
    load,
)
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.ir import QParams, QWeight

LANES = 16  # of int32
VPMULHW = "llvm.x86.avx512.pmulh.w.512"


@dataclass(frozen=True, slots=True, eq=False)
class ByProduct:
    """A conversion and a product."""

    factor: Array  # float32 [O]

    name: ClassVar[str] = "by product"
    dtype: ClassVar[str] = "float32"
    elements: ClassVar[int] = TOGETHER * LANES  # of the constants of a group
    instructions: ClassVar[int] = 18  # of a group

    def layer(self, codes: Array, start: Array) -> tuple[Array, Array]:
        """Return weights int8 [O, ...] and start values int32 [O] for these constants."""
        return codes, start

    def constants(self, channels: Array) -> Array:
        """Return the constants of groups, of ``channels`` [..., vectors, lanes]."""
        return _taken(self.factor, channels)

    def codes(self, acc: list[Expr], memory: Buffer, place: Expr, q: QParams) -> Expr:
        """Return the codes of four vectors; ``place`` is where their constants begin."""
        steps = [
            cast("float32", LANES, each) * load(memory, place + n * LANES, LANES)
            for n, each in enumerate(acc)
        ]
        return narrowed(in_registers(steps), q, LANES)


@dataclass(frozen=True, slots=True, eq=False)
class ByFma:
    """A fused product and sum."""

    scale: FusedScale

    name: ClassVar[str] = "by fma"
    dtype: ClassVar[str] = "float32"
    elements: ClassVar[int] = 2 * TOGETHER * LANES
    instructions: ClassVar[int] = 14

    def layer(self, codes: Array, start: Array) -> tuple[Array, Array]:
        """Return weights int8 [O, ...] and start values int32 [O] for these constants."""
        return codes, start + self.scale.raised

    def constants(self, channels: Array) -> Array:
        """Return the constants of groups, of ``channels`` [..., vectors, lanes]."""
        parts = [_taken(part, channels) for part in (self.scale.factor, self.scale.addend)]
        return np.stack(parts, axis=-2)

    def codes(self, acc: list[Expr], memory: Buffer, place: Expr, q: QParams) -> Expr:
        """Return the codes of four vectors; ``place`` is where their constants begin."""
        dtype = f"float32x{LANES}"
        steps = []
        for n, each in enumerate(acc):
            factor, addend = (load(memory, place + (2 * n + i) * LANES, LANES) for i in (0, 1))
            real = T.reinterpret(dtype, each)
            steps.append(call_intrinsic("llvm.fma", dtype, real, factor, addend))
        return narrowed(in_registers(steps), q, LANES)


@dataclass(frozen=True, slots=True, eq=False)
class InInt16:
    """Fixed point on vectors of int16."""

    scale: Int16Scale

    name: ClassVar[str] = "in int16"
    dtype: ClassVar[str] = "int16"
    elements: ClassVar[int] = 3 * TOGETHER * LANES
    instructions: ClassVar[int] = 10

    def layer(self, codes: Array, start: Array) -> tuple[Array, Array]:
        """Return weights int8 [O, ...] and start values int32 [O] for these constants."""
        times = self.scale.times
        weights = codes * times.reshape(-1, *[1] * (codes.ndim - 1))
        return weights.astype(np.int8), (start * times + self.scale.raised).astype(np.int32)

    def constants(self, channels: Array) -> Array:
        """Return the constants of groups, of ``channels`` [..., vectors, lanes].

        A pair of vectors is in the order of VPACKSSDW: four lanes of each in turn.
        """
        parts = channels.reshape(*channels.shape[:-2], TOGETHER // 2, 2, LANES // 4, 4)
        pairs = parts.swapaxes(-3, -2).reshape(*channels.shape[:-2], TOGETHER // 2, 2 * LANES)
        fields = (self.scale.multiplier, self.scale.addend, self.scale.shift)
        return np.stack([_taken(field, pairs).astype(np.int16) for field in fields], axis=-2)

    def codes(self, acc: list[Expr], memory: Buffer, place: Expr, q: QParams) -> Expr:
        """Return the codes of four vectors; ``place`` is where their constants begin."""
        dtype, width = f"int16x{2 * LANES}", 2 * LANES
        pairs = []
        for pair in range(TOGETHER // 2):
            multiplier, addend, shift = (
                load(memory, place + (3 * pair + i) * width, width) for i in range(3)
            )
            packed = call_intrinsic(VPACKSSDW[LANES], dtype, *acc[2 * pair : 2 * pair + 2])
            upper = call_intrinsic(VPMULHW, dtype, packed, multiplier)
            total = call_intrinsic("llvm.sadd.sat", dtype, upper, addend)
            pairs.append(T.shift_right(total, shift))
        return clipped(to_bytes(in_registers(pairs), LANES), q, TOGETHER * LANES)


Requantizer: TypeAlias = ByProduct | ByFma | InInt16


def requantizer(weight: QWeight, qx: QParams, qy: QParams) -> Requantizer:
    """Return the one of the fewest instructions that is proven for all channels of a layer.

    That its steps fit int32 is proven already (``requant_bounds.largest_step``).
    """
    low, high = accumulators(weight, qx)
    _, factor = start_and_factor(weight, qx, qy)
    largest = np.abs(weight.codes.reshape(len(factor), -1).astype(np.int64)).max(axis=1)
    narrow = int16_scale(low, high, factor, qy, largest)
    if narrow is not None:
        return InInt16(narrow)
    fused = fused_scale(low, high, factor, qy)
    return ByProduct(factor) if fused is None else ByFma(fused)


def _taken(values: Array, channels: Array) -> Array:
    """Return values [O] at ``channels``, zero beyond O."""
    padded = np.append(values, np.zeros(1, values.dtype))
    return np.asarray(padded[np.minimum(channels, len(values))])
