"""Kernels for AVX-512 VNNI on any processor: arithmetic in place of the instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tvm.script.ir_builder import tirx

from gmpq.backends.tvm.kernels.cpu.epilogue import narrowing, requantized_copy, requantizers
from gmpq.backends.tvm.kernels.cpu.epilogue import site as epilogues
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, call_intrinsic, cast, splat
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import GROUP


def arithmetic(_: Vpdpbusd, acc: Expr, operands: list[Expr], weights: list[Expr]) -> Expr:
    """Return what vpdpbusd does, by arithmetic that any processor has."""
    codes, digits = (tirx.reinterpret("int32x16", side[0]) for side in (operands, weights))
    for byte in range(GROUP):
        code = tirx.bitwise_and(
            tirx.shift_right(codes, splat(tirx.int32(8 * byte), 16)), splat(tirx.int32(255), 16)
        )
        raised = tirx.shift_left(digits, splat(tirx.int32(24 - 8 * byte), 16))
        acc = acc + code * tirx.shift_right(raised, splat(tirx.int32(24), 16))
    return acc


def on_any_processor(monkeypatch: pytest.MonkeyPatch) -> Target:
    """Return a target with VPDPBUSD, which arithmetic replaces while a test runs."""
    monkeypatch.setattr(Vpdpbusd, "accumulate", arithmetic)
    monkeypatch.setattr(epilogues, "vpmaddubsw_lanes", lambda _: None)  # of the requantization
    v3 = find("x86-64-v3")
    return replace(v3, features=v3.features | {"avx512vnni", "avx512bw"}, vector_registers=32)


def narrowing_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> Target:
    """Return the same with AVX-512 BW: arithmetic replaces the instructions that narrow, too."""
    monkeypatch.setattr(Vpdpbusd, "accumulate", arithmetic)
    for module in (narrowing, requantized_copy, requantizers):
        monkeypatch.setattr(module, "call_intrinsic", _without_avx512)
    v3 = find("x86-64-v3")
    return replace(v3, features=v3.features | {"avx512vnni", "avx512bw"}, vector_registers=32)


def _without_avx512(intrinsic: str, dtype: str, *arguments: Expr) -> Expr:
    """Return what an instruction of AVX-512 does, by arithmetic that any processor has."""
    match intrinsic:
        case "llvm.x86.avx512.packssdw.512":
            return _packed([_clipped(side, "int32", 16, np.int16) for side in arguments], 4)
        case "llvm.x86.avx512.packuswb.512":
            sides = [_clipped(side, "int16", 32, np.uint8) for side in arguments]
            return tirx.reinterpret(dtype, _packed(sides, 8))
        case "llvm.x86.avx512.pmulh.w.512":
            return _upper(arguments, "int16", "int32")
        case "llvm.x86.avx512.pmulhu.w.512":
            sides = [tirx.reinterpret("uint16x32", side) for side in arguments]
            return tirx.reinterpret(dtype, _upper(sides, "uint16", "uint32"))
        case "llvm.x86.avx512.mask.cvtps2dq.512":
            return cast("int32", 16, call_intrinsic("llvm.rint", "float32x16", arguments[0]))
        case "llvm.x86.avx512.pmaddubs.w.512":  # by ones
            codes = tirx.reinterpret("uint8x64", arguments[0])
            pair = [tirx.Shuffle([codes], list(range(half, 64, 2))) for half in (0, 1)]
            return cast("int16", 32, pair[0]) + cast("int16", 32, pair[1])
        case _:
            return call_intrinsic(intrinsic, dtype, *arguments)


def _clipped(side: Expr, dtype: str, lanes: int, narrow: type[np.integer[Any]]) -> Expr:
    info = np.iinfo(narrow)
    low, high = (
        splat(tirx.Cast(dtype, tirx.int32(int(end))), lanes) for end in (info.min, info.max)
    )
    return cast(np.dtype(narrow).name, lanes, tirx.max(tirx.min(side, high), low))


def _packed(sides: list[Expr], run: int) -> Expr:
    """Return both sides in turn, ``run`` elements of each."""
    lanes = 4 * run
    order = np.arange(2 * lanes).reshape(2, -1, run).swapaxes(0, 1)
    return tirx.Shuffle(sides, order.reshape(-1).tolist())


def _upper(sides: Sequence[Expr], narrow: str, wide: str) -> Expr:
    """Return the upper halves of products."""
    product = cast(wide, 32, sides[0]) * cast(wide, 32, sides[1])
    return cast(narrow, 32, tirx.shift_right(product, splat(tirx.Cast(wide, tirx.int32(16)), 32)))
