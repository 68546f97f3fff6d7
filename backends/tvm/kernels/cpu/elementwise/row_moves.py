"""Rows that move between two blocks of rows, and rows of padding."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Tensor
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Expr,
    c_function,
    clamped_start,
    load,
    splat,
    store,
    view,
)

LANES = 64  # bytes at once


def moved_to_start(value: Tensor, first: int, count: int) -> Call:
    """Return the call that copies ``count`` rows from row ``first`` on to row 0."""
    assert count <= first, "rows do not overlap"
    layout = value.codes
    function = _moved(layout.size_bytes, first * layout.row, count * layout.row)
    return Call(function, (), (), (value.value.name,))


def filled(value: Tensor, first: int, count: int) -> Call:
    """Return the call that fills ``count`` rows from row ``first`` with the zero point."""
    layout = value.codes
    start, size = first * layout.row, count * layout.row
    function = _filled(layout.size_bytes, start, size, value.q.zero_point)
    return Call(function, (), (), (value.value.name,))


def _moved(memory_bytes: int, first: int, size: int) -> PrimFunc:
    lanes = min(LANES, size)

    def body(memory_: Expr) -> None:
        memory = view(memory_, "uint8", memory_bytes)
        with T.serial(0, -(-size // lanes)) as i:
            start = clamped_start(i, lanes, size)
            store(memory, start, load(memory, first + start, lanes), lanes)

    return c_function((("rows", "uint8"),), body)


def _filled(memory_bytes: int, first: int, size: int, zero_point: int) -> PrimFunc:
    lanes = min(LANES, size)

    def body(memory_: Expr) -> None:
        memory = view(memory_, "uint8", memory_bytes)
        with T.serial(0, -(-size // lanes)) as i:
            start = first + clamped_start(i, lanes, size)
            store(memory, start, splat(T.uint8(zero_point), lanes), lanes)

    return c_function((("rows", "uint8"),), body)
