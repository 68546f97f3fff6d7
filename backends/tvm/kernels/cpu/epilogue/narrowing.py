"""Four vectors of steps become one vector of codes, in the order of memory.

AVX2 and AVX-512 BW narrow two vectors to one with saturation, within each 128 bits (Intel SDM,
CVTPS2DQ, PACKSSDW, PACKUSWB):

    round_half_even(steps) -> int16, saturated -> + zero point, saturated -> uint8, saturated

That is the definition, if ``requant_bounds`` proves |steps| < 2**31, which int32 holds: saturation
to int16 and to uint8 is a clip, which the codes' own clip into 0 <= low..high <= 255 covers.

Four codes of a vector then are a word of 32 bits. Word ``part * 4 + vector`` of the result holds
those of the 128 bits ``part`` of a vector; ``in_order`` moves it to ``vector * parts + part``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, splat
from gmpq.backends.tvm.kernels.cpu.isa.x86 import VPMADDUBSW
from gmpq.ir import QParams

TOGETHER = 4  # vectors that become one
INT32_LANES = {32: 8, 64: 16}  # by the codes of one vector, where four vectors became one
NEAREST_EVEN = 8  # rounding of one AVX-512 instruction, whatever the processor's mode
# By int32 lanes: two vectors to one, int32 to int16 and int16 to uint8, both with saturation.
VPACKSSDW = {8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
VPACKUSWB = {8: "llvm.x86.avx2.packuswb", 16: "llvm.x86.avx512.packuswb.512"}


def narrowed(steps: list[Expr], q: QParams, lanes: int) -> Expr:
    """Return the codes of four vectors of ``lanes`` steps, in the order of the instructions."""
    dtype, whole = f"int16x{2 * lanes}", [_whole(step, lanes) for step in steps]
    int16s = [call_intrinsic(VPACKSSDW[lanes], dtype, *whole[i : i + 2]) for i in (0, 2)]
    if q.zero_point:
        shift = splat(T.int16(q.zero_point), 2 * lanes)
        int16s = [call_intrinsic("llvm.sadd.sat", dtype, pair, shift) for pair in int16s]
    return clipped(to_bytes(int16s, lanes), q, 4 * lanes)


def _whole(step: Expr, lanes: int) -> Expr:
    """Return int32 of float32, ties to even."""
    if lanes == 8:
        return call_intrinsic("llvm.x86.avx.cvt.ps2dq.256", "int32x8", step)
    everywhere = (splat(T.int32(0), 16), T.int16(-1), T.int32(NEAREST_EVEN))
    return call_intrinsic("llvm.x86.avx512.mask.cvtps2dq.512", "int32x16", step, *everywhere)


def clipped(codes: Expr, q: QParams, lanes: int) -> Expr:
    """Return uint8 ``codes`` in low..high."""
    if q.high < 255:
        codes = T.min(codes, splat(T.uint8(q.high), lanes))
    return T.max(codes, splat(T.uint8(q.low), lanes)) if q.low > 0 else codes


def added(a: Expr, b: Expr, shift: int, lanes: int) -> Expr:
    """Return uint8 ``a + b + shift``, saturated, of four vectors of ``lanes`` codes each."""
    ones = splat(T.int8(1), 4 * lanes)
    pairs = [unpacked([a, b], 1, half) for half in (0, 1)]
    int16s = [call_intrinsic(VPMADDUBSW[lanes], f"int16x{2 * lanes}", pair, ones) for pair in pairs]
    shifted = [each + splat(T.int16(shift), 2 * lanes) for each in int16s]
    return to_bytes(shifted, lanes)


def to_bytes(int16s: list[Expr], lanes: int) -> Expr:
    """Return two vectors of int16 as one of uint8, saturated, in turn within each 128 bits."""
    return T.reinterpret(
        f"uint8x{4 * lanes}", call_intrinsic(VPACKUSWB[lanes], f"int8x{4 * lanes}", *int16s)
    )


def in_order(codes: Expr, lanes: int) -> Expr:
    """Return the codes of four vectors one vector after the other."""
    ordered = T.Shuffle([T.reinterpret(f"int32x{lanes}", codes)], memory_order(lanes))
    return T.reinterpret(f"uint8x{4 * lanes}", ordered)


def memory_order(lanes: int) -> list[int]:
    """Return the word of ``narrowed`` that comes first, second, and so on, in memory."""
    order: list[int] = np.arange(lanes).reshape(-1, TOGETHER).T.reshape(-1).tolist()
    return order


def narrowed_order(lanes: int) -> NDArray[np.int64]:
    """Return the place in memory of each lane, [vectors, lanes], of ``narrowed`` stored as is."""
    return np.arange(TOGETHER * lanes).reshape(-1, TOGETHER, 4).swapaxes(0, 1).reshape(-1, lanes)


def unpacked(pair: list[Expr], unit: int, half: int) -> Expr:
    """Return elements of ``unit`` bytes of both in turn, from one half of each 128 bits.

    LLVM turns the order into one VPUNPCKLBW, VPUNPCKHBW, VPUNPCKLWD or VPUNPCKHWD.
    """
    dtype = pair[0].ty.dtype
    size = dtype.lanes * dtype.bits // 8
    starts = np.arange(half * 8, half * 8 + 8, unit)
    both = np.stack([starts, starts + size], axis=1).reshape(-1, 1) + np.arange(unit)
    order = np.arange(0, size, 16)[:, None] + both.reshape(-1)
    sides = [T.reinterpret(f"int8x{size}", side) for side in pair]
    return T.Shuffle(sides, order.reshape(-1).tolist())
