"""Another kind of target goes through the planner, the memory plan and the tuning key of CPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.base import Executable
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.fusion import fusions
from gmpq.backends.tvm.plan.plan import Choice, Plan, PlanOptions, Verdict, plan_on, predicted
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import Tuning, key_of
from gmpq.ir import Conv2d, IntGraph, Linear
from tests.backends.tvm.counting_target import (
    DEVICE,
    FAMILIES,
    CountingProgram,
    CountingTarget,
    assemble,
)
from tests.support.strategies import random_graph, random_input

TARGET = CountingTarget()
SEEDS = range(24)


def planned(graph: IntGraph, bound: float = np.inf) -> Plan:
    """Return the plan of the chooser that CPUs have."""
    return plan_on(DEVICE, graph, TARGET, predicted(1), PlanOptions(max_weight_bytes=bound))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_node_is_planned_compiled_and_run_once(seed: int, tmp_path: Path) -> None:
    graph = random_graph(seed)
    built = assemble(graph, planned(graph), TARGET, tmp_path)
    program = CountingProgram.open(tmp_path, built.program)
    runnable: Executable = program  # another class of programs, for parity, latency and tuning
    found = runnable.run(random_input(graph, seed))
    assert {name: x.shape for name, x in found.items()} == {
        name: graph.values[name].shape for name in graph.outputs
    }
    around = ("halo", "in_order")
    computed = Counter({key: n for key, n in program.counts.items() if key[1] not in around})
    fused = fusions(graph, DEVICE.copies_exactly).values()
    taken = {node.name for fusion in fused for node in fusion.nodes}
    expected = {node.name: 1 for node in graph.nodes if node.name not in taken}
    assert Counter(node for node, _ in computed) == expected
    assert set(computed.values()) == {1}


@pytest.mark.parametrize("seed", SEEDS)
def test_only_families_of_the_device_are_asked(seed: int) -> None:
    steps = planned(random_graph(seed)).steps
    names = {family.name for family in FAMILIES}
    assert {step.kernel for step in steps} <= names
    assert {name for step in steps for name in step.refusals} <= {"tiled"}


@pytest.mark.parametrize("seed", SEEDS)
def test_values_lie_by_the_rules_of_the_target(seed: int) -> None:
    graph, rules = random_graph(seed), TARGET.layout_rules
    found = planned(graph)
    layouts = [tensor.layout for tensor in found.tensors.values() if tensor.layout is not None]
    assert {layout.stored % rules.group for layout in layouts} == {0}
    assert any(layout.stored % rules.vector == 0 for layout in layouts)
    assert {offset % rules.alignment for offset in found.memory.offsets.values()} <= {0}
    assert found.memory.workspace_bytes == found.memory.size_bytes


def test_tiles_win_where_they_can_and_give_way_to_a_bound_on_weights() -> None:
    graph = next(g for g in map(random_graph, SEEDS) if layers_of(g))
    free, bounded = (
        {s.node: s.kernel for s in planned(graph, bound).steps if s.node in layers_of(graph)}
        for bound in (np.inf, 1.0)
    )
    assert "tiled" in free.values()
    assert set(bounded.values()) == {"plain"}


def layers_of(graph: IntGraph) -> set[str]:
    """Return the layers that can be tiled."""
    return {
        node.name
        for node in graph.nodes
        if isinstance(node, Linear) or (isinstance(node, Conv2d) and node.groups == 1)
    }


def test_results_are_kept_by_the_fingerprint_of_the_target() -> None:
    keys: list[str] = []
    larger = CountingTarget(units=16)

    def choose(site: Site[CountingTarget], choices: Sequence[Choice]) -> Verdict:
        if isinstance(site.node, Conv2d | Linear) and not keys:
            tuning = Tuning(TuningLevel.OFF, 1)
            same, renamed = replace(site), replace(site, target=replace(TARGET, name="other"))
            sites = (site, same, renamed, replace(site, target=larger))
            keys.extend(key_of(each, choices, tuning) for each in sites)
        return predicted(1)(site, choices)

    graph = next(g for g in map(random_graph, SEEDS) if layers_of(g))
    plan_on(DEVICE, graph, TARGET, choose)
    assert keys[0] == keys[1] == keys[2] != keys[3]
