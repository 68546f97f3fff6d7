"""From a plan for a GPU to one text of CUDA C, a table of launches, and the parameters."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import transform
from tvm.tirx import PrimFunc
from tvm.tirx import transform as tirx

from gmpq.backends.tvm.codegen.launches import Argument, Launch, LaunchTable, Place
from gmpq.backends.tvm.codegen.module import Bound, Params, bind
from gmpq.backends.tvm.kernels.gpu.isa.builder import GRID, THREADS
from gmpq.backends.tvm.plan.plan import FLOAT_BYTES, Plan
from gmpq.backends.tvm.target.gpu import GpuTarget
from gmpq.ir import IntGraph
from gmpq.program import TensorSpec

# As for CPUs; kernels name their threads and their shared memory already.
LOWERING = (
    tirx.NarrowDataType(32),
    tirx.UnrollLoop(),
    tirx.StmtSimplify(),
    tirx.RemoveNoOp(),
    tirx.LowerIntrin(),
)


@dataclass(frozen=True, slots=True, eq=False)
class CudaSource:
    """A network as CUDA C: its text, its launches, and the bytes of its parameters."""

    text: str
    table: LaunchTable
    params: bytes


def emit(graph: IntGraph, plan: Plan, target: GpuTarget) -> CudaSource:
    """Return the kernels and the launches of a planned graph."""
    symbols: dict[PrimFunc, str] = {}
    params, rules = Params(plan.memory.rules.alignment), plan.memory.rules
    steps = [[bind(call, symbols, params) for call in step.calls] for step in plan.steps]
    functions = {symbol: function for function, symbol in symbols.items()}
    content = bytes(params.content) + bytes(rules.slack)
    launches = tuple(
        tuple(_launch(bound, graph, plan, functions[bound.symbol]) for bound in step)
        for step in steps
    )
    table = LaunchTable(
        launches,
        len(content),
        plan.memory.workspace_bytes,
        *(_sizes(graph, names) for names in (graph.inputs, graph.outputs)),
    )
    return CudaSource(cuda_text(functions, target.arch), table, content)


def cuda_text(functions: dict[str, PrimFunc], arch: str) -> str:
    """Return CUDA C of kernels by name; TVM keeps names and the order of parameters."""
    device = tvm.target.Target({"kind": "cuda", "arch": arch})
    module = {
        name: function.with_attrs({"global_symbol": name, "target": device})
        for name, function in functions.items()
    }
    lowered = transform.Sequential(LOWERING)(tvm.IRModule(module))
    return str(tvm.get_global_func("target.build.cuda")(lowered, device).inspect_source())


def _sizes(graph: IntGraph, names: tuple[str, ...]) -> tuple[int, ...]:
    specs = (TensorSpec(name, graph.values[name].shape) for name in names)
    return tuple(spec.elements * FLOAT_BYTES for spec in specs)


def _launch(bound: Bound, graph: IntGraph, plan: Plan, function: PrimFunc) -> Launch:
    """Return the launch of a call, whose arguments are inputs, constants, outputs."""
    call, attributes = bound.call, function.attrs
    inputs, outputs = (
        [_argument(name, graph, plan) for name in side] for side in (call.inputs, call.outputs)
    )
    constants = [Argument(Place.PARAMS, offset) for offset in bound.constants]
    x, y = (int(n) for n in attributes[GRID])
    threads = int(attributes[THREADS])
    return Launch(bound.symbol, (x, y, 1), threads, (*inputs, *constants, *outputs))


def _argument(name: str, graph: IntGraph, plan: Plan) -> Argument:
    for place, names in ((Place.INPUT, graph.inputs), (Place.OUTPUT, graph.outputs)):
        if name in names:
            return Argument(place, 0, names.index(name))
    return Argument(Place.WORKSPACE, plan.memory.offsets[name])
