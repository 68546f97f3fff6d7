"""From a plan to one module of plain C functions, its parameters, and its entry.

    int32_t gmpq_steps(params, workspace, inputs..., outputs..., int32_t first, int32_t last)

runs the steps first <= i < last. Running one step at a time shows every intermediate value and
times every layer, in the very program that is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm.ir import PrimType
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc
from tvm_ffi import structural_equal

from gmpq.backends.tvm.kernels.base import Array, Call
from gmpq.backends.tvm.kernels.cpu.isa.builder import C_FUNCTION, Expr
from gmpq.backends.tvm.plan.plan import Plan
from gmpq.ir import IntGraph

ENTRY = "gmpq_steps"


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """A module ready to compile, and the bytes of its parameters."""

    module: tvm.IRModule
    params: bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """A call with its symbol and the offsets of its constants."""

    call: Call
    symbol: str
    constants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Params:
    """The constants of all calls; an array that several calls read is stored once."""

    alignment: int
    content: bytearray = field(default_factory=bytearray)
    offsets: dict[int, int] = field(default_factory=dict)  # by identity

    def place(self, array: Array) -> int:
        """Return the offset of an array of any shape that lives as long as its call."""
        if id(array) not in self.offsets:
            self.content.extend(bytes(-len(self.content) % self.alignment))
            self.offsets[id(array)] = len(self.content)
            self.content.extend(np.ascontiguousarray(array).tobytes())
        return self.offsets[id(array)]


def emit(graph: IntGraph, plan: Plan) -> Emitted:
    """Return the module and the parameters of a planned graph."""
    symbols: dict[PrimFunc, str] = {}
    params, rules = Params(plan.memory.rules.alignment), plan.memory.rules
    steps = [[bind(call, symbols, params) for call in step.calls] for step in plan.steps]
    functions = {
        symbol: function.with_attr("global_symbol", symbol) for function, symbol in symbols.items()
    }
    entry = _entry(graph, plan, steps, len(params.content) + rules.slack)
    module = tvm.IRModule({ENTRY: entry, **functions})
    return Emitted(module, bytes(params.content) + bytes(rules.slack))


def bind(call: Call, symbols: dict[PrimFunc, str], params: Params) -> Bound:
    """Return ``call`` with its function's symbol and its constants placed in ``params``."""
    symbol = _symbol(call.function, symbols)
    return Bound(call, symbol, tuple(params.place(array) for array in call.constants))


def _symbol(function: PrimFunc, symbols: dict[PrimFunc, str]) -> str:
    """Return the symbol of ``function``; equal functions share one."""
    for known, symbol in symbols.items():
        if structural_equal(known, function):
            return symbol
    symbols[function] = f"gmpq_kernel_{len(symbols)}"
    return symbols[function]


def _entry(graph: IntGraph, plan: Plan, steps: list[list[Bound]], params_bytes: int) -> PrimFunc:
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name(ENTRY)
            T.func_attr({"calling_conv": C_FUNCTION, "global_symbol": ENTRY})
            base = T.arg("params", T.handle("uint8"))
            memory = T.arg("workspace", T.handle("uint8"))
            io = {
                name: T.arg(f"{role}_{i}", T.handle("float32"))
                for role, names in (("input", graph.inputs), ("output", graph.outputs))
                for i, name in enumerate(names)
            }
            first, last = T.arg("first", T.int32()), T.arg("last", T.int32())
            T.func_ret(PrimType("int32"))
            params = T.decl_buffer((params_bytes,), "uint8", data=base)
            size = plan.memory.workspace_bytes
            workspace = T.decl_buffer((size,), "uint8", data=memory)
            memory_of = _Memory(workspace, plan.memory.offsets, io)
            for i, calls in enumerate(steps):
                if calls:
                    with T.If(T.And(first <= i, i < last)), T.Then():
                        for bound in calls:
                            _call(bound, memory_of, params)
            T.Return(T.int32(0))
        return builder.get()


@dataclass(frozen=True, slots=True)
class _Memory:
    """Where values lie: in the workspace, or where the caller has inputs and outputs."""

    workspace: Expr
    offsets: Mapping[str, int]
    io: Mapping[str, Expr]

    def address(self, call: Call, name: str) -> Expr:
        """Return where a call sees a value."""
        if name in self.io:
            return self.io[name]
        return T.address_of(self.workspace[self.offsets[name] + call.skipped.get(name, 0)])


def _call(bound: Bound, memory: _Memory, params: Expr) -> None:
    call = bound.call
    inputs, outputs = (
        [memory.address(call, name) for name in side] for side in (call.inputs, call.outputs)
    )
    constants = [T.address_of(params[offset]) for offset in bound.constants]
    T.evaluate(T.call_extern("int32", bound.symbol, *inputs, *constants, *outputs))
