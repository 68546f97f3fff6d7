"""The functions that kernels for GPUs are written with, on top of TVM's IRBuilder.

A kernel is one function of a grid of blocks along x and y. Its attributes hold the launch; its
parameters are pointers in the order of ``Call``. Scalars are int32: codes are bytes of words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from tvm.backend.cuda.op import cuda_func_call
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

Expr: TypeAlias = Any  # a TIR expression, or a Python number
Buffer: TypeAlias = Any
Body: TypeAlias = Callable[..., None]

DEVICE_FUNCTION = 2  # tvm.ir.CallingConv.DEVICE_KERNEL_LAUNCH: printed as a kernel, as it is
GRID, THREADS = "gmpq_grid", "gmpq_threads"  # attributes of a function
ITEMS = 128  # threads of a block of a kernel without shared memory
WORD = 4  # codes of one word


@dataclass(frozen=True, slots=True)
class Grid:
    """Blocks along x and y, and the threads of each."""

    x: int
    y: int
    threads: int


class Filled(Protocol):
    """Something that further blocks of a kernel store, item by item."""

    @property
    def items(self) -> int:
        """How many items there are."""

    def fill(self, item: Expr, pointers: tuple[Expr, ...]) -> None:
        """Store one item; ``pointers`` are all of the kernel."""


def kernel(
    parameters: tuple[tuple[str, str], ...],
    grid: Grid,
    body: Body,
    filled: Sequence[Filled] = (),
) -> PrimFunc:
    """Return ``void f(parameters...)`` of ``body(block_x, block_y, thread, *pointers)``.

    ``parameters`` are pairs of a name and the element type it points to. Further blocks along x
    store what is ``filled``.
    """
    further = [-(-each.items // grid.threads) for each in filled]
    blocks = grid.x + sum(further)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name("kernel")
            T.func_attr(
                {
                    "calling_conv": DEVICE_FUNCTION,
                    "tirx.is_global_func": True,
                    "tirx.noalias": True,
                    GRID: [blocks, grid.y],
                    THREADS: grid.threads,
                }
            )
            pointers = [T.arg(name, T.handle(dtype, "global")) for name, dtype in parameters]
            with (
                T.launch_thread("blockIdx.x", blocks) as x,
                T.launch_thread("blockIdx.y", grid.y) as y,
                T.launch_thread("threadIdx.x", grid.threads) as thread,
            ):
                _run(body, (x, y, thread), pointers, grid, list(zip(filled, further, strict=True)))
        return builder.get()


def _run(
    body: Body,
    place: tuple[Expr, Expr, Expr],
    pointers: list[Expr],
    grid: Grid,
    filled: list[tuple[Filled, int]],
) -> None:
    """Run ``body`` in the first blocks, and fill in the others."""
    x, y, thread = place
    if not filled:
        body(x, y, thread, *pointers)
        return
    with T.If(x < grid.x), T.Then():
        body(x, y, thread, *pointers)
    first = grid.x
    for each, blocks in filled:
        item = (x - first) * grid.threads + thread
        inside = T.And(T.And(x >= first, item < each.items), y == 0)
        with T.If(inside), T.Then():
            each.fill(item, tuple(pointers))
        first += blocks


def item_kernel(
    parameters: tuple[tuple[str, str], ...],
    items: int,
    body: Body,
    filled: Sequence[Filled] = (),
) -> PrimFunc:
    """Return a kernel of one thread per item, which runs ``body(item, *pointers)``."""
    blocks = -(-items // ITEMS)

    def guarded(x: Expr, _y: Expr, thread: Expr, *pointers: Expr) -> None:
        item = x * ITEMS + thread
        with T.If(item < items), T.Then():
            body(item, *pointers)

    return kernel(parameters, Grid(blocks, 1, ITEMS), guarded, filled)


def view(pointer: Expr, dtype: str, elements: int) -> Buffer:
    """Return the memory behind ``pointer`` as a flat buffer."""
    return T.decl_buffer((elements,), dtype, data=pointer)


def local(count: int, dtype: str) -> Buffer:
    """Return ``count`` registers of a thread."""
    return T.alloc_buffer((count,), dtype, scope="local")


def store(buffer: Buffer, place: Expr, value: Expr) -> None:
    """Store ``value`` at ``place``."""
    T.buffer_store(buffer, value, [place])


def register(value: Expr, dtype: str = "int32") -> Expr:
    """Return ``value`` read back from a register, so that it is computed once."""
    slot = local(1, dtype)
    store(slot, 0, value)
    return slot[0]


def run(name: str, *arguments: Expr, source: str) -> None:
    """Run the device function ``name``, which ``source`` defines."""
    T.evaluate(cuda_func_call(name, *arguments, source_code=source))


def value_of(name: str, dtype: str, *arguments: Expr, source: str) -> Expr:
    """Return what the device function ``name`` returns, which ``source`` defines."""
    return cuda_func_call(name, *arguments, source_code=source, return_type=dtype)


def code_of(word: Expr, byte: int) -> Expr:
    """Return one of the four codes of a uint32 word, as int32."""
    shifted = T.shift_right(word, T.uint32(8 * byte)) if byte else word
    return T.Cast("int32", T.bitwise_and(shifted, T.uint32(255)))


def weight_of(word: Expr, byte: int) -> Expr:
    """Return one of the four signed weights of a uint32 word, as int32."""
    raised = T.shift_left(word, T.uint32(24 - 8 * byte)) if byte < WORD - 1 else word
    return T.shift_right(T.reinterpret("int32", raised), T.int32(24))


def word_of(codes: list[Expr]) -> Expr:
    """Return the uint32 word of four int32 codes."""
    word = T.Cast("uint32", codes[0])
    for byte, code in enumerate(codes[1:], 1):
        word = T.bitwise_or(word, T.shift_left(T.Cast("uint32", code), T.uint32(8 * byte)))
    return word


def clip(value: Expr, low: int, high: int) -> Expr:
    """Return int32 ``value`` between ``low`` and ``high``."""
    return T.max(T.min(value, T.int32(high)), T.int32(low))
