"""From a graph to steps: which kernel computes each node, and where its values lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family, Site, Tensor
from gmpq.backends.tvm.kernels.ends import halo_call
from gmpq.backends.tvm.kernels.table import KERNELS
from gmpq.backends.tvm.layout import layouts
from gmpq.backends.tvm.memory import Life, MemoryPlan, place
from gmpq.backends.tvm.target import Target
from gmpq.ir import IntGraph

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node: its kernel, the calls that compute it, and why other kernels could not."""

    node: str
    output: str
    kernel: str
    configuration: str
    calls: tuple[Call, ...]
    refusals: Mapping[str, str]  # kernel family -> reason
    measured_ms: Mapping[str, float]  # configuration -> median, where it was tuned


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


def cheapest(_site: Site, choices: Sequence[Choice]) -> Verdict:
    """Return the choice of the fewest predicted cycles."""
    return Verdict(min(choices, key=lambda choice: choice[1].cycles))


def plan(graph: IntGraph, target: Target, choose: Chooser = cheapest) -> Plan:
    """Return the steps that compute ``graph`` by the kernels that ``choose`` takes."""
    placed = layouts(graph)
    tensors = {name: Tensor(value, placed.get(name)) for name, value in graph.values.items()}
    steps = tuple(
        _step(
            Site(node, tuple(tensors[name] for name in node.inputs), tensors[node.output], target),
            choose,
        )
        for node in graph.nodes
    )
    return Plan(steps, tensors, place(_lives(graph, tensors)))


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
    halo = None if site.output.layout is None else halo_call(site.output)
    return Step(
        site.node.name,
        site.output.value.name,
        family.name,
        chosen.configuration,
        (*([halo] if halo else []), chosen.build()),
        {name: reason for name, reason in refusals.items() if reason is not None},
        verdict.measured_ms,
    )


def _lives(graph: IntGraph, tensors: Mapping[str, Tensor]) -> dict[str, Life]:
    """Return the life of every value in the workspace: all but the network's inputs and outputs."""
    lives = {}
    for first, node in enumerate(graph.nodes):
        if node.output in graph.outputs:
            continue
        readers = [i for i, other in enumerate(graph.nodes) if node.output in other.inputs]
        size = size_bytes(tensors[node.output])
        lives[node.output] = Life(size, first, max(readers, default=first))
    return lives


def size_bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes in memory."""
    if tensor.layout is not None:
        return tensor.layout.size_bytes
    elements = 1
    for extent in tensor.value.shape:
        elements *= extent
    return elements * FLOAT_BYTES
