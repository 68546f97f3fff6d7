"""Kernels for several threads: what they share is as even as predictions say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.base import Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot
from gmpq.backends.tvm.kernels.cpu.winograd.dot import DotProduct
from gmpq.backends.tvm.kernels.cpu.winograd.shape import Schedule, WinogradShape
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import F2
from gmpq.backends.tvm.kernels.cpu.winograd.winograd import FAMILY as WINOGRAD
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan, predicted
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import Tuning, shortlist, tuned
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.support.builders import residual
from tests.support.single_layers import check, network_of, random_weight

V3 = find("x86-64-v3")


def no_call() -> Call:
    raise AssertionError("not built")


def one_block(outputs: int) -> IntGraph:
    """Return a layer whose tiles are few enough for one block."""
    rng = np.random.default_rng(0)
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    node = Conv2d("conv", ("x",), "y", random_weight(rng, (outputs, 32, 3, 3), 3), window)
    return network_of(node, QParams.full(1.0, 2, 3), (14, 14), batch=1)


@pytest.mark.parametrize(
    ("tasks", "threads", "share"),
    [(None, 1, 1.0), (None, 4, 0.25), (1, 2, 1.0), (3, 2, 2 / 3), (3, 3, 1 / 3), (2, 4, 0.5)],
)
def test_the_busiest_thread_decides(tasks: int | None, threads: int, share: float) -> None:
    candidate = Candidate("", 600.0, no_call, tasks=tasks)
    assert candidate.cost_on(threads) == pytest.approx(600.0 * share)


def test_two_threads_take_what_they_can_share() -> None:
    family = Family("some", (Conv2d,), lambda site: ())
    choices = [
        (family, Candidate(name, cycles, no_call, tasks=tasks))
        for name, cycles, tasks in (("whole", 100.0, 1), ("halves", 110.0, 2))
    ]
    taken: list[str] = []

    def choose(site: Site[Target], _: Sequence[Choice]) -> Verdict:
        taken.extend(predicted(n)(site, choices).choice[1].configuration for n in (1, 2))
        ranked = (shortlist(choices, TuningLevel.QUICK, n)[0] for n in (1, 2))
        taken.extend(candidate.configuration for _, candidate in ranked)
        return cheapest(site, _)

    plan(residual(), V3, choose)
    assert taken[:4] == ["whole", "halves"] * 2


@pytest.mark.parametrize("threads", [2, 4])
def test_winograd_has_a_schedule_that_threads_share(threads: int) -> None:
    found: list[Candidate] = []

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        if isinstance(site.node, Conv2d):
            found.extend(candidate for family, candidate in choices if family is WINOGRAD)
        return cheapest(site, choices)

    plan(one_block(64), V3, choose)
    best = min(found, key=lambda candidate: candidate.cost_on(threads))
    assert best.tasks is not None
    assert best.tasks >= threads
    assert best.cost_on(threads) < 1.5 / threads * min(c.cost for c in found)


@pytest.mark.skipif(not V3.runs_here(), reason="needs AVX2")
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("outputs", [40, 64, 136])
def test_parts_of_few_outputs_equal_the_reference(
    outputs: int, number: int, tmp_path: Path
) -> None:
    assert check(one_block(outputs), V3, tmp_path, "winograd", number, " parts")


@pytest.mark.parametrize("outputs", [24, 64, 136, 520, 576])
def test_parts_are_all_within_the_groups(outputs: int) -> None:
    """Nine groups in four parts of three would be twelve."""
    shape = WinogradShape(
        F2, Layout(1, 8, 8, 8, 16), Layout(1, outputs, 8, 8, outputs), (1, 1), 1, 16, ()
    )
    for lanes, vectors, parts in product((8, 16), (1, 2, 4), (1, 2, 3, 4)):
        tile = DotProduct(4, vectors, 16, -(-outputs // lanes), 16, Int16Dot(lanes), 4)
        scheme = Schedule(shape, tile, least_parts=parts)
        assert (scheme.parts - 1) * scheme.share < scheme.groups <= scheme.parts * scheme.share


@pytest.mark.skipif(not V3.runs_here(), reason="needs AVX2")
def test_without_tuning_programs_are_for_their_threads(tmp_path: Path) -> None:
    kernels = []
    for threads in (1, 2):
        chooser = tuned(Tuning(TuningLevel.OFF, threads), lambda _: None)
        steps = build(one_block(64), V3, tmp_path, chooser).plan.steps
        kernels.append(next(step.configuration for step in steps if step.node == "conv"))
    assert kernels[0] != kernels[1]
