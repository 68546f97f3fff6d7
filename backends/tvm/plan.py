"""From a graph to steps: which kernel computes each node, and where its values lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TypeAlias

from gmpq.backends.tvm.fuse import Fusion, fusions
from gmpq.backends.tvm.kernels.base import Addition, Call, Candidate, Family, Site, Tensor, Work
from gmpq.backends.tvm.kernels.ends import halo_call
from gmpq.backends.tvm.kernels.reals import in_order_call, sums_of
from gmpq.backends.tvm.kernels.table import KERNELS
from gmpq.backends.tvm.layout import layouts
from gmpq.backends.tvm.memory import Life, MemoryPlan, place
from gmpq.backends.tvm.script import scratch_bytes
from gmpq.backends.tvm.target import Target
from gmpq.ir import Conv2d, IntGraph, Linear, Node, Value

FLOAT_BYTES = 4
# Of every thread beside the kernels' buffers: registers that they spill, at most 4 KiB, and the
# first call of a function in libm or libc: the dynamic linker, which binds it then, saves all
# registers meanwhile, 11 KiB with those of AMX.
CALLS_BYTES = 16 << 10


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node: its kernel, the calls that compute it, and why other kernels could not."""

    node: str
    outputs: tuple[str, ...]
    kernel: str
    configuration: str
    calls: tuple[Call, ...]
    refusals: Mapping[str, str]  # kernel family -> reason
    measured_ms: Mapping[str, float]  # configuration -> median, where it was tuned
    cycles: float = 0.0  # predicted, on one thread
    work: Work | None = None  # of a kernel that multiplies


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All steps in order, with the tensors and the memory they use."""

    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    memory: MemoryPlan


Choice: TypeAlias = tuple[Family, Candidate]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The choice at a site, and the milliseconds of all choices that were measured, by name."""

    choice: Choice
    measured_ms: Mapping[str, float] = field(default_factory=dict)


Chooser: TypeAlias = Callable[[Site, Sequence[Choice]], Verdict]


def predicted(threads: int) -> Chooser:
    """Return the chooser of the fewest predicted cycles on ``threads`` threads."""
    return lambda _site, choices: Verdict(min(choices, key=lambda c: c[1].cycles_on(threads)))


cheapest = predicted(1)


def plan(graph: IntGraph, target: Target, choose: Chooser = cheapest, *, fuse: bool = True) -> Plan:
    """Return the steps that compute ``graph`` by the kernels that ``choose`` takes.

    Without ``fuse`` every node is a step, so that the program shows every value.
    """
    placed = layouts(graph)
    tensors = {name: Tensor(value, placed.get(name)) for name, value in graph.values.items()}
    tensors |= {found.value.name: found for found in map(sums_of, _real_outputs(graph))}
    fused = fusions(graph) if fuse else {}
    taken = {node.name for fusion in fused.values() for node in fusion.nodes}
    weights = weights_bytes(graph)
    steps = tuple(
        _step(_site(node, tensors, fused.get(node.name), target, weights), choose)
        for node in graph.nodes
        if node.name not in taken
    )
    return Plan(steps, tensors, place(_lives(graph, tensors, steps)))


def weights_bytes(graph: IntGraph) -> int:
    """Return the weights of all layers, which a run reads once, at a byte each."""
    layers = (node for node in graph.nodes if isinstance(node, Conv2d | Linear))
    return sum(layer.weight.codes.size for layer in layers)


def _real_outputs(graph: IntGraph) -> list[Value]:
    """Return the float32 values that layers write."""
    layers = [node for node in graph.nodes if isinstance(node, Conv2d | Linear)]
    written = [graph.values[node.output] for node in layers]
    return [value for value in written if value.q is None]


def _site(
    node: Node,
    tensors: Mapping[str, Tensor],
    fusion: Fusion | None,
    target: Target,
    weights: int,
) -> Site:
    inputs, output = tuple(tensors[name] for name in node.inputs), tensors[node.output]
    if isinstance(node, Conv2d | Linear) and output.value.q is None:
        output = tensors[sums_of(output.value).value.name]
    site = Site(node, inputs, output, target, weights_bytes=weights)
    if fusion is None:
        return site
    addition = None
    if fusion.addition is not None:
        (term,) = (name for name in fusion.addition.inputs if name != node.output)
        addition = Addition(tensors[term], tensors[fusion.addition.output])
    copies = tuple(tensors[copy.output] for copy in fusion.copies)
    return replace(site, addition=addition, copies=copies, keeps=fusion.stored)


def _step(site: Site, choose: Chooser) -> Step:
    families = [family for family in KERNELS if isinstance(site.node, family.nodes)]
    refusals = {family.name: family.refuses(site) for family in families}
    choices = [
        (family, candidate)
        for family in families
        if refusals[family.name] is None
        for candidate in family.candidates(site)
    ]
    verdict = choose(site, choices)
    family, chosen = verdict.choice
    halos = [halo_call(tensor) for tensor in site.stored if tensor.layout is not None]
    outputs, last = tuple(tensor.value.name for tensor in site.stored), list[Call]()
    if isinstance(site.node, Conv2d | Linear) and site.output.value.q is None:
        outputs, last = (site.node.output,), [in_order_call(site)]
    return Step(
        site.node.name,
        outputs,
        family.name,
        chosen.configuration,
        (*(halo for halo in halos if halo), chosen.build(), *last),
        {name: reason for name, reason in refusals.items() if reason is not None},
        verdict.measured_ms,
        chosen.cycles,
        chosen.work,
    )


def _lives(
    graph: IntGraph, tensors: Mapping[str, Tensor], steps: Sequence[Step]
) -> dict[str, Life]:
    """Return the life of every value in the workspace: all but the network's inputs and outputs."""
    last = {name: i for i, step in enumerate(steps) for call in step.calls for name in call.inputs}
    return {
        name: Life(size_bytes(tensors[name]), i, last.get(name, i))
        for i, step in enumerate(steps)
        for call in step.calls
        for name in call.outputs
        if name not in graph.outputs
    }


def moved_bytes(planned: Plan, step: Step) -> int:
    """Return the bytes of values and constants that a step reads and writes, each once."""
    values = {name for call in step.calls for name in (*call.inputs, *call.outputs)}
    constants = sum(array.nbytes for call in step.calls for array in call.constants)
    return constants + sum(size_bytes(planned.tensors[name]) for name in values)


def stack_bytes(step: Step) -> int:
    """Return the bytes of the buffers that a step keeps on the stack of every thread."""
    return max(scratch_bytes(call.function) for call in step.calls)


def most_stack_bytes(planned: Plan) -> int:
    """Return the bytes that a run takes of the stack of every thread."""
    return CALLS_BYTES + max((stack_bytes(step) for step in planned.steps), default=0)


def size_bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes in memory."""
    elements = prod(tensor.value.shape) if tensor.layout is None else tensor.layout.size
    return elements * (FLOAT_BYTES if tensor.value.q is None else 1)
