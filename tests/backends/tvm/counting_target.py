"""A third kind of target, which counts the calls of its kernels instead of computing.

It has what a kind of target needs: the target, families and what else the planner asks of a device,
code generation, and a program that runs. Nothing here is of CPUs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, final, get_args

import numpy as np
from tvm.ir import PrimType
from tvm.script.ir_builder import IRBuilder, tirx
from tvm.tirx import PrimFunc

from gmpq.backends.base import Tensor as Array
from gmpq.backends.base import elapsed_ms
from gmpq.backends.tvm.codegen.description import described
from gmpq.backends.tvm.codegen.form import Build
from gmpq.backends.tvm.kernels.base import Call, Candidate, Device, Family, Site, Tensor, only
from gmpq.backends.tvm.plan.plan import Plan
from gmpq.backends.tvm.target import LayoutRules
from gmpq.ir import Conv2d, IntGraph, Linear, Node
from gmpq.program import Program

CALLS = "calls.json"
RULES = LayoutRules(vector=32, group=8, fold=1, alignment=128, slack=0)


@dataclass(frozen=True, slots=True)
class CountingTarget:
    """A device that is everywhere, and whose rules are not those of CPUs."""

    name: str = "counting"
    machine: str = "none"
    layout_rules: LayoutRules = RULES
    llc_share_bytes: int = 0
    flush_bytes: int = 0
    value_cache_bytes: int | None = None
    params_ratio: float = inf
    units: int = 8

    def runs_here(self) -> bool:
        """Return True: anybody can count."""
        return True

    def fingerprint(self) -> Mapping[str, object]:
        """Return what the time of a kernel would depend on."""
        return {"device": "counting", "units": self.units}


# --- kernels -------------------------------------------------------------------------------------


def kernel(name: str) -> PrimFunc:
    """Return a function without arguments, known by its name alone."""
    with IRBuilder() as builder:
        with tirx.prim_func(s_tir=True):
            tirx.func_name(name)
            tirx.func_attr({"counted": name})
            tirx.func_ret(PrimType("int32"))
            tirx.Return(tirx.int32(0))
        return builder.get()


def layer(site: Site[CountingTarget], *, tiles: int) -> tuple[Candidate, ...]:
    """Return one configuration; with more tiles it costs less and its weights take more."""
    assert isinstance(site.node, Conv2d | Linear)
    work = site.work("count")
    size = site.node.weight.codes.size * tiles
    build = partial(site.call, kernel(f"layer{tiles}"))
    cost = work.executed_macs / tiles / site.target.units
    return (Candidate(f"{tiles}", cost, build, work, weight_bytes=size),)


def refuses(site: Site[CountingTarget]) -> str | None:
    """Return why a layer cannot be tiled."""
    grouped = isinstance(site.node, Conv2d) and site.node.groups > 1
    return "tiles have no groups" if grouped else None


def other(site: Site[CountingTarget]) -> Call:
    """Return the call of any other node."""
    return site.call(kernel(type(site.node).__name__))


def halo(tensor: Tensor) -> Call | None:
    """Return the call that fills a halo."""
    filled = Call(kernel("halo"), (), (), (tensor.value.name,))
    return filled if any(tensor.codes.halo) else None


def in_order(site: Site[CountingTarget]) -> Call:
    """Return the call that follows a layer with a float32 output."""
    return Call(kernel("in_order"), (site.output.value.name,), (), (site.node.output,))


LAYERS = (Conv2d, Linear)
OTHERS = tuple(kind for kind in get_args(Node) if kind not in LAYERS)
FAMILIES = (
    Family("plain", LAYERS, partial(layer, tiles=1)),
    Family("tiled", LAYERS, partial(layer, tiles=2), refuses),
    Family("other", OTHERS, only(other)),
)
DEVICE: Device[CountingTarget] = Device(FAMILIES, halo, in_order, lambda _source, _q: True)


# --- code and program ----------------------------------------------------------------------------


def assemble(graph: IntGraph, planned: Plan, target: CountingTarget, directory: Path) -> Build:
    """Write the calls of every step into ``directory``."""
    steps = [
        {
            "node": step.node,
            "calls": [
                {
                    "kernel": str(call.function.attrs["counted"]),
                    "inputs": call.inputs,
                    "outputs": call.outputs,
                }
                for call in step.calls
            ],
        }
        for step in planned.steps
    ]
    (directory / CALLS).write_text(json.dumps(steps))
    return Build(planned, described(graph, planned, target, 0))


@final
@dataclass(frozen=True, slots=True, eq=False)
class CountingProgram:
    """An ``Executable`` that counts: ``counts`` has the calls by node and kernel."""

    program: Program
    steps: list[dict[str, Any]]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def open(cls, directory: Path, program: Program) -> CountingProgram:
        """Return the program in ``directory``."""
        return cls(program, json.loads((directory / CALLS).read_text()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(spec.name for spec in self.program.outputs)

    @property
    def emulated(self) -> bool:
        """False."""
        return False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return zeros; asserts that every call finds its inputs written."""
        written = set(inputs)
        for step in self.steps:
            for call in step["calls"]:
                assert written >= set(call["inputs"]), f"{step['node']} reads what nobody wrote"
                written |= set(call["outputs"])
                self.counts[step["node"], call["kernel"]] += 1
        assert written >= set(self.outputs)
        return {spec.name: np.zeros(spec.shape, np.float32) for spec in self.program.outputs}

    def trace(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return zeros for every stored value."""
        stored = [value for step in self.program.steps for value in step.stored]
        return self.run(inputs) | {value.name: np.zeros(value.shape, np.uint8) for value in stored}

    def time_runs(self, inputs: Mapping[str, Array], count: int) -> list[float]:
        """Return the milliseconds of ``count`` runs."""
        return [elapsed_ms(partial(self.run, inputs)) for _ in range(count)]

    def time_steps(
        self, inputs: Mapping[str, Array], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Return no time at all for each step."""
        return {step["node"]: [0.0] * count for step in self.steps}

    def close(self) -> None:
        """Forget the counts."""
        self.counts.clear()
