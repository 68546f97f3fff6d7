"""Instructions of ARM's NEON that LLVM does not find by itself, and those that it does.

Products of bytes are written as widened multiplications, which LLVM turns into smull and smlal, and
products that stay bytes into mul and mla. Pairwise sums need the processor's own intrinsics.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, cast, splat
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.ir import QParams

Array: TypeAlias = NDArray[Any]

CODES = 16  # of a vector
SIGN = 128


def word_bits(target: CpuTarget) -> int | None:
    """Return 64 or 32 where the target has NEON, else None."""
    if "neon" not in target.features:
        return None
    return 64 if target.triple.startswith("aarch64") else 32


def multiplies(target: CpuTarget) -> bool:
    """Return whether NEON's own multiplications are the fastest of the target."""
    return word_bits(target) is not None and "dotprod" not in target.features


def code_range(q: QParams) -> tuple[int, int]:
    """Return the lowest and the highest code as signed bytes: less 128 if some exceed 127."""
    high = max(q.high, q.zero_point)
    low = -SIGN if high >= SIGN else 0
    return low, high + low


def signed(codes: Expr) -> Expr:
    """Return int8x16 ``codes`` of unsigned bytes, less 128."""
    return T.bitwise_xor(codes, splat(T.int8(-SIGN), CODES))


def lower(codes: Expr) -> Expr:
    """Return the first eight of sixteen codes."""
    return T.Shuffle([codes], [*range(CODES // 2)])


def upper(codes: Expr) -> Expr:
    """Return the last eight of sixteen codes."""
    return T.Shuffle([codes], [*range(CODES // 2, CODES)])


def multiplied(a: Expr, b: Expr) -> Expr:
    """Return int16x8 products of eight bytes (smull, or with an addition smlal)."""
    return cast("int16", 8, a) * cast("int16", 8, b)


def pairs_added(bits: int, acc: Expr, values: Expr, lanes: int) -> Expr:
    """Return ``lanes`` sums plus two neighbours each of twice as many narrower values (sadalp)."""
    wide, narrow = (32, 16) if lanes == CODES // 4 else (16, 8)
    dtype = f"int{wide}x{lanes}"
    if bits == 32:
        return call_intrinsic(
            "llvm.arm.neon.vpadals", dtype, acc, T.reinterpret(f"int{narrow}x{2 * lanes}", values)
        )
    return acc + call_intrinsic("llvm.aarch64.neon.saddlp", dtype, values)


def widened_pairs(bits: int, values: Expr, lanes: int) -> Expr:
    """Return ``lanes`` sums of two neighbours each of twice as many unsigned values (uaddlp)."""
    narrow = CODES * 4 // lanes
    intrinsic = "llvm.arm.neon.vpaddlu" if bits == 32 else "llvm.aarch64.neon.uaddlp"
    kind = f"int{narrow}x{2 * lanes}"
    return call_intrinsic(intrinsic, f"int{2 * narrow}x{lanes}", T.reinterpret(kind, values))


def across(four: list[Expr]) -> Expr:
    """Return int32x4 of the sums of the lanes of four int32x4 (addp)."""
    a, b, c, d = four
    return neighbours(neighbours(a, b, 4), neighbours(c, d, 4), 4)


def neighbours(a: Expr, b: Expr, lanes: int) -> Expr:
    """Return the sums of neighbours of two vectors of ``lanes``, one after the other (addp)."""
    even, odd = (T.Shuffle([a, b], [*range(first, 2 * lanes, 2)]) for first in (0, 1))
    return even + odd


def in_steps(rows: Array) -> Array:
    """Return weights [..., columns, depth, channels, 16] of [..., channels, columns, codes].

    The last step is padded by zeros.
    """
    depth = -(-rows.shape[-1] // CODES)
    missing = [(0, 0)] * (rows.ndim - 1) + [(0, depth * CODES - rows.shape[-1])]
    split = np.pad(rows, missing).reshape(*rows.shape[:-1], depth, CODES)
    return np.ascontiguousarray(np.moveaxis(split, -4, -2))
