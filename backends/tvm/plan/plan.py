"""From a graph to steps: which kernel computes each node, and where its values lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, prod
from typing import Any, TypeAlias, TypeVar, assert_never

from gmpq.backends.tvm.kernels.base import (
    Call,
    Candidate,
    Device,
    Family,
    Site,
    Tensor,
)
from gmpq.backends.tvm.plan.fusion import fusions
from gmpq.backends.tvm.plan.inflation import Option, within
from gmpq.backends.tvm.plan.memory import Life, place
from gmpq.backends.tvm.plan.registry import CPU, GPU
from gmpq.backends.tvm.plan.row_blocks import pairs, run_in_turn
from gmpq.backends.tvm.plan.sites import sites_of, tensors_of
from gmpq.backends.tvm.plan.step import Plan as Plan
from gmpq.backends.tvm.plan.step import Step as Step
from gmpq.backends.tvm.target import AnyTarget, CpuTarget, GpuTarget, Target
from gmpq.ir import Conv2d, IntGraph, Linear

FLOAT_BYTES = 4
LARGE = 1 << 20  # weights of a layer whose kernels take seconds to look for
T = TypeVar("T", bound=AnyTarget)
Choice: TypeAlias = tuple[Family[Any], Candidate]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The choice at a site, and what other choices cost, by name.

    ``costs`` has what may be taken instead, if anything: predicted, or in proportion to
    ``measured_ms``.
    """

    choice: Choice
    measured_ms: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)


Chooser: TypeAlias = Callable[[Site[Target], Sequence[Choice]], Verdict]


def predicted(threads: int) -> Callable[[Site[AnyTarget], Sequence[Choice]], Verdict]:
    """Return the chooser of the least predicted cost on ``threads`` threads."""

    def choose(_site: Site[AnyTarget], choices: Sequence[Choice]) -> Verdict:
        costs = {name_of(choice): choice[1].cost_on(threads) for choice in choices}
        return Verdict(min(choices, key=lambda c: c[1].cost_on(threads)), costs=costs)

    return choose


def name_of(choice: Choice) -> str:
    """Return the name of a choice in tables and caches."""
    family, candidate = choice
    return f"{family.name} {candidate.configuration}".rstrip()


cheapest = predicted(1)


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What else decides a plan.

    ``max_weight_bytes`` bounds the memory of all weights, in bytes per weight, where kernels exist
    that keep it. With ``in_turn`` two layers may run over blocks of rows, as far as it pays on
    ``threads`` threads; then the second step takes the time of both. ``on_layer`` is called with
    the name of each large layer before its kernels are looked for.
    """

    fuse: bool = True  # kernels take over nodes; without, the program shows every value
    max_weight_bytes: float = inf
    in_turn: bool = True
    threads: int = 1
    on_layer: Callable[[str], object] = lambda _: None


DEFAULTS = PlanOptions()


def plan(
    graph: IntGraph,
    target: Target,
    choose: Chooser = cheapest,
    options: PlanOptions = DEFAULTS,
) -> Plan:
    """Return the steps that compute ``graph``, legal, by the kernels that ``choose`` takes."""
    match target:
        case CpuTarget():
            return plan_on(CPU, graph, target, choose, options)
        case GpuTarget():
            return plan_on(GPU, graph, target, choose, options)
        case _:
            assert_never(target)


def plan_on(
    device: Device[T],
    graph: IntGraph,
    target: T,
    choose: Callable[[Site[T], Sequence[Choice]], Verdict],
    options: PlanOptions = DEFAULTS,
) -> Plan:
    """Return the plan on a kind of target; the other arguments are those of ``plan``."""
    tensors = tensors_of(graph, target.layout_rules)
    fused = fusions(graph, device.copies_exactly) if options.fuse else {}
    sites = sites_of(graph, tensors, fused, target)
    steps = []
    for site in sites:
        if isinstance(site.node, Conv2d | Linear) and site.node.weight.codes.size >= LARGE:
            options.on_layer(site.node.name)
        steps.append(_step(device, site, choose))
    if options.max_weight_bytes < inf:
        steps = _bounded(device, sites, steps, options.max_weight_bytes)
    if options.fuse and options.in_turn:
        for pair in pairs(graph, sites, device, options.threads):
            run_in_turn(device, sites, steps, tensors, pair)
    lives = _lives(graph, tensors, steps)
    return Plan(tuple(steps), tensors, place(lives, target.layout_rules))


def fuses(graph: IntGraph, target: Target) -> bool:
    """Return whether a program of ``graph`` may keep values to itself that others show."""
    match target:
        case CpuTarget():
            return _fuses_on(CPU, graph, target)
        case GpuTarget():
            return _fuses_on(GPU, graph, target)
        case _:
            assert_never(target)


def _fuses_on(device: Device[T], graph: IntGraph, target: T) -> bool:
    fused = fusions(graph, device.copies_exactly)
    tensors = tensors_of(graph, target.layout_rules)
    return bool(fused or pairs(graph, sites_of(graph, tensors, fused, target), device))


def _bounded(
    device: Device[T], sites: Sequence[Site[T]], steps: Sequence[Step], bound: float
) -> list[Step]:
    """Return ``steps``, some with other kernels, so that all weights keep the bound."""
    layers = [n for n, step in enumerate(steps) if step.options]
    chosen, options = [steps[n].options[0] for n in layers], [steps[n].options for n in layers]
    most = bound * sum(_codes(sites[n]) for n in layers)
    found = list(steps)
    for n, option in zip(layers, within(chosen, options, most), strict=True):
        if option != steps[n].options[0]:
            found[n] = _instead(device, sites[n], steps[n], option, bound)
    return found


def _instead(device: Device[T], site: Site[T], step: Step, option: Option, bound: float) -> Step:
    """Return ``step`` with the kernel ``option``, and what refuses the one that it had."""

    def choose(_site: Site[T], choices: Sequence[Choice]) -> Verdict:
        return Verdict(next(c for c in choices if name_of(c) == option.name), step.measured_ms)

    found = _step(device, site, choose)
    refused = step.kernel if step.kernel != found.kernel else step.options[0].name
    reason = f"its weights would exceed --max-params-ratio {bound:g}"
    return replace(found, refusals={**found.refusals, refused: reason})


def _codes(site: Site[AnyTarget]) -> int:
    assert isinstance(site.node, Conv2d | Linear)
    return site.node.weight.codes.size


def _options(
    site: Site[AnyTarget], choices: Sequence[Choice], verdict: Verdict
) -> tuple[Option, ...]:
    """Return the choice at a layer, and what may be taken instead."""
    if not isinstance(site.node, Conv2d | Linear):
        return ()
    others = [c for c in choices if c != verdict.choice and name_of(c) in verdict.costs]
    return tuple(
        Option(
            name_of(choice),
            verdict.costs.get(name_of(choice), choice[1].cost),
            _codes(site) if choice[1].weight_bytes is None else choice[1].weight_bytes,
        )
        for choice in (verdict.choice, *others)
    )


def _step(
    device: Device[T], site: Site[T], choose: Callable[[Site[T], Sequence[Choice]], Verdict]
) -> Step:
    families = [family for family in device.families if isinstance(site.node, family.nodes)]
    refusals = {family.name: family.refuses(site) for family in families}
    choices = [
        (family, candidate)
        for family in families
        if refusals[family.name] is None
        for candidate in family.candidates(site)
    ]
    verdict = choose(site, choices)
    family, chosen = verdict.choice
    halos = [device.halo(tensor) for tensor in site.results if tensor.layout is not None]
    outputs, last = tuple(tensor.value.name for tensor in site.results), list[Call]()
    if isinstance(site.node, Conv2d | Linear) and site.output.value.q is None:
        outputs, last = (site.node.output,), [device.in_order(site)]
    return Step(
        site.node.name,
        outputs,
        family.name,
        chosen.configuration,
        (*(halo for halo in halos if halo), chosen.build(), *last),
        {name: reason for name, reason in refusals.items() if reason is not None},
        verdict.measured_ms,
        chosen.cost,
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
    constants = {id(array): array.nbytes for call in step.calls for array in call.constants}
    return sum(constants.values()) + sum(size_bytes(planned.tensors[name]) for name in values)


def size_bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes in memory."""
    elements = prod(tensor.value.shape) if tensor.layout is None else tensor.layout.size
    return elements * (FLOAT_BYTES if tensor.value.q is None else 1)
