"""The bound on what weights take: the cheapest layers give way, and plans say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.inflation import Option, within
from gmpq.backends.tvm.plan.plan import Choice, Plan, PlanOptions, Verdict, cheapest, plan
from gmpq.backends.tvm.plan.sites import weights_bytes
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import Tuning, key_of, tuned
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.support.builders import chain, weight

Q4 = QParams.full(0.05, 0, 4)


def options(*sizes: tuple[float, int]) -> list[Option]:
    return [Option(f"{size}", cycles, size) for cycles, size in sizes]


def names(found: list[Option]) -> list[str]:
    return [option.name for option in found]


def test_the_layer_that_loses_least_per_byte_gives_way() -> None:
    layers = [options((10, 40), (20, 10)), options((10, 40), (15, 10)), options((10, 10))]
    chosen = [layer[0] for layer in layers]
    assert names(within(chosen, layers, 90)) == ["40", "40", "10"]
    assert names(within(chosen, layers, 89)) == ["40", "10", "10"]
    assert names(within(chosen, layers, 59)) == ["10", "10", "10"]
    assert names(within(chosen, layers, 1)) == ["10", "10", "10"]


def test_a_layer_may_give_way_in_part() -> None:
    layers = [options((10, 40), (11, 20), (30, 10))]
    assert names(within([layers[0][0]], layers, 25)) == ["20"]
    assert names(within([layers[0][0]], layers, 15)) == ["10"]


def network(bits: int = 4, names: Sequence[str] = ("one", "two")) -> IntGraph:
    """Return layers that Winograd computes on boards."""
    shape, window = (1, 64, 16, 16), Window((3, 3), padding=Padding(1, 1, 1, 1))
    q = QParams.full(0.05, 0, bits)
    layers = [
        Conv2d(name, ("",), "", weight((64, 64, 3, 3), bits, q, q, seed), window)
        for seed, name in enumerate(names)
    ]
    return chain([(layer, shape, q) for layer in layers], shape, q)


def params_bytes(planned: Plan) -> int:
    return sum(
        array.nbytes
        for step in planned.steps
        for call in step.calls
        for array in call.constants
        if array.size > 1000
    )


@pytest.mark.parametrize("bound", [1.0, 1.5, inf])
def test_plans_keep_the_bound_and_tell(bound: float) -> None:
    graph, target = network(), find("arm64")
    planned = plan(graph, target, options=PlanOptions(max_weight_bytes=bound))
    most = bound * weights_bytes(graph)
    assert params_bytes(planned) <= most * 1.05
    reason = f"its weights would exceed --max-params-ratio {bound:g}"
    refused = [step.node for step in planned.steps if reason in step.refusals.values()]
    assert bool(refused) == (bound < inf)
    assert params_bytes(plan(graph, target)) > 1.5 * weights_bytes(graph)


@pytest.mark.parametrize("target", ["arm64", "arm64-dotprod", "x86-64-v3", "x86-64-v4-vnni"])
@pytest.mark.parametrize("bits", [2, 6])
def test_candidates_know_the_bytes_that_they_store(bits: int, target: str) -> None:
    compared = []

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        if isinstance(site.node, Conv2d):
            codes = site.node.weight.codes.size
            for name, candidate in {family.name: found for family, found in choices}.items():
                stored = sum(array.nbytes for array in candidate.build().constants)
                expected = codes if candidate.weight_bytes is None else candidate.weight_bytes
                compared.append(name)
                assert 0.8 * expected < stored < 1.25 * expected + 5000, candidate.configuration
        return cheapest(site, choices)

    plan(network(bits, ["one"]), find(target), choose)
    assert len(compared) >= 2


def test_measured_times_keep_the_bound_too() -> None:
    graph, target = network(), find("arm64")
    board = Tuning(TuningLevel.OFF, 1, board="board")
    times: dict[str, dict[str, float]] = {}

    def note(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        verdict = cheapest(site, choices)
        if isinstance(site.node, Conv2d):  # as fast as predicted, at 1 GHz
            times[key_of(site, choices, board)] = {n: c / 1e6 for n, c in verdict.costs.items()}
        return verdict

    plan(graph, target, note)
    choose = tuned(replace(board, found=times), print)
    planned = plan(graph, target, choose, PlanOptions(max_weight_bytes=1.5))
    assert params_bytes(planned) <= 1.5 * weights_bytes(graph)
    assert all(step.measured_ms for step in planned.steps if step.options)


def test_large_layers_are_reported_before_they_are_planned() -> None:
    layers: list[str] = []
    shape = (1, 1024, 1, 1)
    large = Conv2d("large", ("",), "", weight((1024, 1024, 1, 1), 4, Q4, Q4), Window((1, 1)))
    plan(
        chain([(large, shape, Q4)], shape, Q4),
        find("x86-64-v3"),
        options=PlanOptions(on_layer=layers.append),
    )
    assert layers == ["large"]
    plan(network(), find("x86-64-v3"), options=PlanOptions(on_layer=layers.append))
    assert layers == ["large"]


def test_targets_have_a_bound_of_their_own() -> None:
    ratios = {name: find(name).params_ratio for name in ("x86-64-v3", "arm64", "armv7", "rpi4")}
    assert ratios == {"x86-64-v3": inf, "arm64": 1.5, "armv7": 1.5, "rpi4": 1.5}
    assert np.isinf(find("native").params_ratio) == find("native").triple.startswith("x86")
