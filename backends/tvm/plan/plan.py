"""From a graph to steps: which kernel computes each node, and where its values lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, prod
from typing import TypeAlias

from gmpq.backends.tvm.kernels.base import Addition, Call, Candidate, Family, Site, Tensor, Work
from gmpq.backends.tvm.kernels.cpu.elementwise.float_boundary import halo_call
from gmpq.backends.tvm.kernels.cpu.elementwise.reals import in_order_call, sums_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import scratch_bytes
from gmpq.backends.tvm.kernels.layout import layouts
from gmpq.backends.tvm.plan.fusion import Fusion, fusions
from gmpq.backends.tvm.plan.inflation import Option, within
from gmpq.backends.tvm.plan.memory import Life, MemoryPlan, place
from gmpq.backends.tvm.plan.registry import KERNELS
from gmpq.backends.tvm.target.cpu import Target
from gmpq.ir import Conv2d, IntGraph, Linear, Node, Value

FLOAT_BYTES = 4
# Of every thread beside the kernels' buffers: registers that they spill, at most 4 KiB, and the
# first call of a function in libm or libc: the dynamic linker, which binds it then, saves all
# registers meanwhile, 11 KiB with those of AMX.
CALLS_BYTES = 16 << 10
LARGE = 1 << 20  # weights of a layer whose kernels take seconds to look for


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
    options: tuple[Option, ...] = ()  # that a layer had; the chosen one is the first


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All steps in order, with the tensors and the memory they use."""

    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    memory: MemoryPlan


Choice: TypeAlias = tuple[Family, Candidate]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The choice at a site, and what other choices cost, by name.

    ``cycles`` has what may be taken instead, if anything: predicted, or in proportion to
    ``measured_ms``.
    """

    choice: Choice
    measured_ms: Mapping[str, float] = field(default_factory=dict)
    cycles: Mapping[str, float] = field(default_factory=dict)


Chooser: TypeAlias = Callable[[Site, Sequence[Choice]], Verdict]


def predicted(threads: int) -> Chooser:
    """Return the chooser of the fewest predicted cycles on ``threads`` threads."""

    def choose(_site: Site, choices: Sequence[Choice]) -> Verdict:
        cycles = {name_of(choice): choice[1].cycles_on(threads) for choice in choices}
        return Verdict(min(choices, key=lambda c: c[1].cycles_on(threads)), cycles=cycles)

    return choose


def name_of(choice: Choice) -> str:
    """Return the name of a choice in tables and caches."""
    family, candidate = choice
    return f"{family.name} {candidate.configuration}".rstrip()


cheapest = predicted(1)


def plan(
    graph: IntGraph,
    target: Target,
    choose: Chooser = cheapest,
    *,
    fuse: bool = True,
    bound: float = inf,
    told: Callable[[str], object] = lambda _: None,
) -> Plan:
    """Return the steps that compute ``graph`` by the kernels that ``choose`` takes.

    Args:
        graph: a legal graph.
        target: what the kernels are for.
        choose: what decides between kernels.
        fuse: whether kernels take over nodes; without, the program shows every value.
        bound: what the weights of all layers may take, in times of a byte each, where kernels
            exist that keep it.
        told: called with the name of each large layer before its kernels are looked for.
    """
    placed = layouts(graph)
    tensors = {name: Tensor(value, placed.get(name)) for name, value in graph.values.items()}
    tensors |= {found.value.name: found for found in map(sums_of, _real_outputs(graph))}
    fused = fusions(graph) if fuse else {}
    taken = {node.name for fusion in fused.values() for node in fusion.nodes}
    weights = weights_bytes(graph)
    sites = [
        _site(node, tensors, fused.get(node.name), target, weights)
        for node in graph.nodes
        if node.name not in taken
    ]
    steps = []
    for site in sites:
        if isinstance(site.node, Conv2d | Linear) and site.node.weight.codes.size >= LARGE:
            told(site.node.name)
        steps.append(_step(site, choose))
    if bound < inf:
        steps = _bounded(sites, steps, bound)
    return Plan(tuple(steps), tensors, place(_lives(graph, tensors, steps)))


def _bounded(sites: Sequence[Site], steps: Sequence[Step], bound: float) -> list[Step]:
    """Return ``steps``, some with other kernels, so that all weights keep the bound."""
    layers = [n for n, step in enumerate(steps) if step.options]
    chosen, options = [steps[n].options[0] for n in layers], [steps[n].options for n in layers]
    most = bound * sum(_codes(sites[n]) for n in layers)
    found = list(steps)
    for n, option in zip(layers, within(chosen, options, most), strict=True):
        if option != steps[n].options[0]:
            found[n] = _instead(sites[n], steps[n], option, bound)
    return found


def _instead(site: Site, step: Step, option: Option, bound: float) -> Step:
    """Return ``step`` with the kernel ``option``, and what refuses the one that it had."""

    def choose(_site: Site, choices: Sequence[Choice]) -> Verdict:
        return Verdict(next(c for c in choices if name_of(c) == option.name), step.measured_ms)

    found = _step(site, choose)
    refused = step.kernel if step.kernel != found.kernel else step.options[0].name
    reason = f"its weights would exceed --max-params-ratio {bound:g}"
    return replace(found, refusals={**found.refusals, refused: reason})


def _codes(site: Site) -> int:
    assert isinstance(site.node, Conv2d | Linear)
    return site.node.weight.codes.size


def _options(site: Site, choices: Sequence[Choice], verdict: Verdict) -> tuple[Option, ...]:
    """Return the choice at a layer, and what may be taken instead."""
    if not isinstance(site.node, Conv2d | Linear):
        return ()
    others = [c for c in choices if c != verdict.choice and name_of(c) in verdict.cycles]
    return tuple(
        Option(
            name_of(choice),
            verdict.cycles.get(name_of(choice), choice[1].cycles),
            _codes(site) if choice[1].weight_bytes is None else choice[1].weight_bytes,
        )
        for choice in (verdict.choice, *others)
    )


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
    return replace(site, addition=addition, copies=copies, stores_result=fusion.stores_result)


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
    halos = [halo_call(tensor) for tensor in site.results if tensor.layout is not None]
    outputs, last = tuple(tensor.value.name for tensor in site.results), list[Call]()
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
        _options(site, choices, verdict),
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
