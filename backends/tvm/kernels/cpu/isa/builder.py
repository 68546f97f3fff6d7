"""The functions that kernels are written with, on top of TVM's IRBuilder.

An accumulator lives in a register only if its buffer is a stack slot that LLVM promotes: scope
"global", less than 1024 bytes, one vector each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from tvm.ir import PrimType
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import AllocBuffer, PrimFunc
from tvm_ffi import structural_walk

from gmpq.ir import QParams

Expr: TypeAlias = Any  # a TIR expression, or a Python number
Buffer: TypeAlias = Any
Body: TypeAlias = Callable[..., None]

C_FUNCTION = 1  # tvm.ir.CallingConv.C_PACKED_FUNC: already lowered, so a plain C function results
# 1.5 * 2**23: adding it leaves no fraction bits, ties to even, and adds the whole number to the
# pattern of bits, 0x4B400000.
ROUNDER = 12582912.0
LINE = 64  # bytes of a cache line
ON_STACK = "disable_lower_builtin"  # TVM's annotation of a buffer that stays where it is


def c_function(parameters: tuple[tuple[str, str], ...], body: Body) -> PrimFunc:
    """Return ``int32_t f(parameters...)`` that runs ``body(*parameters)`` and returns 0.

    ``parameters`` are pairs of a name and the element type it points to.
    """
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name("kernel")
            T.func_attr({"calling_conv": C_FUNCTION, "tir.noalias": True})
            pointers = [T.arg(name, T.handle(dtype)) for name, dtype in parameters]
            T.func_ret(PrimType("int32"))
            body(*pointers)
            T.Return(T.int32(0))
        return builder.get()


def view(pointer: Expr, dtype: str, elements: int) -> Buffer:
    """Return the memory behind ``pointer`` as a flat buffer."""
    return T.decl_buffer((elements,), dtype, data=pointer)


def registers(count: int, dtype: str) -> list[Buffer]:
    """Return ``count`` slots of one vector each, which LLVM keeps in registers."""
    return [T.alloc_buffer((1,), dtype, scope="global") for _ in range(count)]


def scratch(elements: int, dtype: str) -> Buffer:
    """Return memory on the stack, of any size, aligned to a cache line.

    TVM would take 1024 bytes and more from a heap, and aligns to 16 bytes unless the elements are
    wider: here they are vectors of 64 bytes, seen as what they hold.
    """
    annotations = {ON_STACK: True}
    lanes = LINE // np.dtype(dtype).itemsize
    lines = -(-elements // lanes)
    memory = T.alloc_buffer((lines,), vector(dtype, lanes), annotations=annotations)
    return T.decl_buffer((lines * lanes,), dtype, data=memory.data)


def align_stack() -> None:
    """Make LLVM align the stack of this function, or of this body of a parallel loop, to lines.

    Vectors that do not fit the registers would lie across cache lines else.
    """
    prefetch(scratch(LINE, "uint8"), 0)


def scratch_bytes(function: PrimFunc) -> int:
    """Return the bytes of all ``scratch`` of a kernel, which every thread has on its stack."""
    found = []

    def visit(node: Any) -> None:
        if ON_STACK in node.annotations:
            (lines,) = node.buffer.shape
            found.append(int(lines) * LINE)

    structural_walk(function.body, (AllocBuffer, visit))
    return sum(found)


def assign(register: Buffer, value: Expr) -> None:
    """Store ``value``, of the slot's type, in a register."""
    T.buffer_store(register, value, [0])


def zeros(count: int, dtype: str, lanes: int) -> list[Buffer]:
    """Return ``count`` registers that hold zeros."""
    slots = registers(count, vector(dtype, lanes))
    for slot in slots:
        assign(slot, splat(T.Cast(dtype, T.int32(0)), lanes))
    return slots


def in_registers(values: list[Expr]) -> list[Expr]:
    """Return ``values`` read back from registers, so that each is computed once."""
    slots = [registers(1, str(value.ty.dtype))[0] for value in values]
    for slot, value in zip(slots, values, strict=True):
        assign(slot, value)
    return [slot[0] for slot in slots]


def load(buffer: Buffer, start: Expr, lanes: int, stride: int = 1) -> Expr:
    """Return ``lanes`` elements that lie ``stride`` apart."""
    return buffer[T.ramp(start, stride, lanes)] if lanes > 1 else buffer[start]


def store(buffer: Buffer, start: Expr, value: Expr, lanes: int, stride: int = 1) -> None:
    """Store ``lanes`` elements ``stride`` apart."""
    T.buffer_store(buffer, value, [T.ramp(start, stride, lanes) if lanes > 1 else start])


def clamped_start(index: Expr, size: int, extent: int) -> Expr:
    """Return the start of tile ``index`` of ``size``; the last one is moved back into the range.

    An odd extent then needs no remainder code: some elements are computed twice, with one result.
    """
    return index * size if extent % size == 0 else T.min(index * size, extent - size)


def vector(dtype: str, lanes: int) -> str:
    """Return the name of a type of ``lanes`` elements."""
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


def splat(value: Expr, lanes: int) -> Expr:
    """Return a vector of one scalar."""
    return T.broadcast(value, lanes) if lanes > 1 else value


def cast(dtype: str, lanes: int, value: Expr) -> Expr:
    """Return ``value`` element by element in another type."""
    return T.Cast(vector(dtype, lanes), value)


def call_intrinsic(intrinsic: str, dtype: str, *arguments: Expr) -> Expr:
    """Return the value of an LLVM intrinsic."""
    number = T.llvm_lookup_intrinsic_id(intrinsic)
    return T.call_llvm_pure_intrin(number, *arguments, dtype=dtype)


def call_intrinsic_void(intrinsic: str, *arguments: Expr) -> None:
    """Run an LLVM intrinsic for its effect."""
    number = T.llvm_lookup_intrinsic_id(intrinsic)
    T.evaluate(T.call_llvm_intrin(number, *arguments, dtype="void"))


def prefetch(memory: Buffer, place: Expr) -> None:
    """Ask for the cache line at ``place``, which may lie beyond the memory's end."""
    read, locality, data = T.int32(0), T.int32(3), T.int32(1)
    call_intrinsic_void("llvm.prefetch.p0", T.address_of(memory[place]), read, locality, data)


def to_codes(steps: Expr, q: QParams, lanes: int) -> Expr:
    """Return ``clip(round_half_even(steps) + zero_point, low, high)`` as uint8.

    The clip comes first: between whole bounds it commutes with rounding, it keeps the rounding by
    addition in its exact range, and it stands between a product and that addition, which LLVM
    would otherwise contract into one operation with one rounding. NaN compares with nothing and
    becomes ``low``, as the first comparison takes its second operand then.
    """
    floor = splat(T.float32(float(q.low - q.zero_point)), lanes)
    ceiling = splat(T.float32(float(q.high - q.zero_point)), lanes)
    clipped = T.min(T.max(steps, floor), ceiling)
    pattern = T.reinterpret(vector("int32", lanes), clipped + splat(T.float32(ROUNDER), lanes))
    if q.zero_point:
        pattern = pattern + splat(T.int32(q.zero_point), lanes)
    return cast("uint8", lanes, pattern)  # the lowest byte of the rounder is zero
