"""The bound on what weights take: the cheapest layers give way, and plans say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from gmpq.backends.tvm.inflation import Option, within
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan import Choice, Plan, Verdict, cheapest, plan, weights_bytes
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.tune import Effort, Tuning, key_of, tuned
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.builders import chain, weight

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


def network() -> IntGraph:
    """Return two layers that Winograd computes on boards, of few and of many pixels."""
    shape, window = (1, 64, 16, 16), Window((3, 3), padding=Padding(1, 1, 1, 1))
    return chain(
        [
            (
                Conv2d(name, ("",), "", weight((64, 64, 3, 3), 4, Q4, Q4, seed), window),
                shape,
                Q4,
            )
            for seed, name in enumerate(("one", "two"))
        ],
        shape,
        Q4,
    )


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
    planned = plan(graph, target, bound=bound)
    most = bound * weights_bytes(graph)
    assert params_bytes(planned) <= most * 1.05
    reason = f"its weights would exceed --max-params-ratio {bound:g}"
    refused = [step.node for step in planned.steps if reason in step.refusals.values()]
    assert bool(refused) == (bound < inf)
    assert params_bytes(plan(graph, target)) > 1.5 * weights_bytes(graph)


def test_measured_times_keep_the_bound_too() -> None:
    graph, target = network(), find("arm64")
    board = Tuning(Effort.OFF, 1, board="board")
    times: dict[str, dict[str, float]] = {}

    def note(site: Site, choices: Sequence[Choice]) -> Verdict:
        verdict = cheapest(site, choices)
        if isinstance(site.node, Conv2d):  # as fast as predicted, at 1 GHz
            times[key_of(site, choices, board)] = {n: c / 1e6 for n, c in verdict.cycles.items()}
        return verdict

    plan(graph, target, note)
    choose = tuned(replace(board, found=times), print)
    planned = plan(graph, target, choose, bound=1.5)
    assert params_bytes(planned) <= 1.5 * weights_bytes(graph)
    assert all(step.measured_ms for step in planned.steps if step.options)


def test_targets_have_a_bound_of_their_own() -> None:
    ratios = {name: find(name).params_ratio for name in ("x86-64-v3", "arm64", "armv7", "rpi4")}
    assert ratios == {"x86-64-v3": inf, "arm64": 1.5, "armv7": 1.5, "rpi4": 1.5}
    assert np.isinf(find("native").params_ratio) == find("native").triple.startswith("x86")
