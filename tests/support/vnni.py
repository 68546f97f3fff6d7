"""Kernels for AVX-512 VNNI on any processor: arithmetic in place of the instruction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tvm.script.ir_builder import tirx

from gmpq.backends.tvm.kernels.cpu.epilogue import site as epilogues
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, splat
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
