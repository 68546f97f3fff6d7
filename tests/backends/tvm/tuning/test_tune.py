from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.plan import Choice, Step, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.tuning import tune
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import KERNELS_VERSION, Tuning, fastest, key_of, name_of, tuned
from gmpq.ir import Conv2d, IntGraph, QParams, Requantize, Window
from tests.support.builders import Q8, chain, residual, weight


def conv_step(graph: IntGraph, tuning: Tuning, folder: Path) -> tuple[Step, list[str]]:
    """Return the convolution's step, and the layers that were measured."""
    measured: list[str] = []
    built = build(graph, find("native"), folder, tuned(tuning, measured.append))
    return next(s for s in built.plan.steps if s.node == "block.conv"), measured


def test_what_was_measured_is_remembered_and_decides(tmp_path: Path) -> None:
    cache = tmp_path / "kernels.json"
    quick = Tuning(TuningLevel.QUICK, 1, cache)
    first, measured = conv_step(residual(), quick, tmp_path)
    again, measured_again = conv_step(residual(), quick, tmp_path)
    assert measured == ["block.conv"]
    assert measured_again == []
    chosen = f"{first.kernel} {first.configuration}".rstrip()
    assert chosen == min(first.measured_ms, key=first.measured_ms.__getitem__)
    assert (again.kernel, again.configuration) == (first.kernel, first.configuration)


def test_without_tuning_a_remembered_result_still_decides(tmp_path: Path) -> None:
    cache = tmp_path / "kernels.json"
    conv_step(residual(), Tuning(TuningLevel.QUICK, 1, cache), tmp_path)
    content = json.loads(cache.read_text())
    ((key, times),) = content["results"].items()
    slowest = max(times, key=times.__getitem__)
    content["results"][key][slowest] = 0.0
    cache.write_text(json.dumps(content))
    step, measured = conv_step(residual(), Tuning(TuningLevel.OFF, 1, cache), tmp_path)
    assert measured == []
    assert f"{step.kernel} {step.configuration}".rstrip() == slowest


def test_full_tuning_measures_every_candidate(tmp_path: Path) -> None:
    quick, _ = conv_step(residual(), Tuning(TuningLevel.QUICK, 1), tmp_path)
    full, _ = conv_step(residual(), Tuning(TuningLevel.FULL, 1), tmp_path)
    assert set(quick.measured_ms) < set(full.measured_ms)


def test_layers_that_write_copies_and_boards_have_their_own_results() -> None:
    image, q4 = (1, 16, 4, 4), QParams.full(0.78, 0, 4)
    conv = Conv2d("conv", ("codes",), "", weight((16, 16, 1, 1), 4, Q8, Q8), Window((1, 1)))
    last = replace(conv, name="last", inputs=("a4",), weight=weight((16, 16, 1, 1), 4, q4, Q8))
    copy = Requantize("a4", ("conv",), "")
    graph = chain([(conv, image, Q8), (copy, image, q4), (last, image, Q8)], image, Q8)
    keys = []

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        if site.node.name == "conv":
            assert [tensor.value.name for tensor in site.results] == ["a4"]
            alone = replace(site, copies=(), stores_result=True)
            both = replace(site, stores_result=True)
            tuning = Tuning(TuningLevel.OFF, 1)
            keys.extend(key_of(found, choices, tuning) for found in (site, alone, both))
            others = (replace(tuning, board=board) for board in ("Cortex-A53", "Cortex-A72"))
            keys.extend(key_of(site, choices, other) for other in others)
        return cheapest(site, choices)

    plan(graph, find("native"), choose)
    assert len(set(keys)) == 5


def convolution(graph: IntGraph, target: str = "native") -> tuple[str, list[str]]:
    """Return the key of the convolution's results, and the names of its candidates."""
    found: list[tuple[str, list[str]]] = []

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        if site.node.name == "block.conv":
            key = key_of(site, choices, Tuning(TuningLevel.OFF, 1))
            found.append((key, [name_of(choice) for choice in choices]))
        return cheapest(site, choices)

    plan(graph, find(target), choose)
    return found[0]


@pytest.mark.parametrize(("target", "kept"), [("x86-64-v3", True), ("x86-64-v4-vnni", False)])
def test_kernels_for_vnni_have_a_version(
    target: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = convolution(residual(), target)
    monkeypatch.setattr(tune, "VNNI_VERSION", 99)
    after, _ = convolution(residual(), target)
    assert (before == after) is kept


def test_results_of_unknown_kernels_decide_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "kernels.json"
    key, names = convolution(residual())
    content: dict[str, Any] = {"kernels": KERNELS_VERSION, "results": {key: {"no kernel": 0.1}}}
    cache.write_text(json.dumps(content))
    guessed, _ = conv_step(residual(), Tuning(TuningLevel.OFF, 1, cache), tmp_path)
    assert guessed.measured_ms == {}
    content["results"][key][names[-1]] = 0.2
    cache.write_text(json.dumps(content))
    known, _ = conv_step(residual(), Tuning(TuningLevel.OFF, 1, cache), tmp_path)
    assert f"{known.kernel} {known.configuration}".rstrip() == names[-1]
    assert known.measured_ms == {names[-1]: 0.2}


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    told: list[str] = []
    tuning = Tuning(TuningLevel.QUICK, 1, tmp_path / "file" / "kernels.json", warn=told.append)
    step, measured = conv_step(residual(), tuning, tmp_path)
    assert measured == ["block.conv"]
    assert step.measured_ms
    (warning,) = told
    assert "file/kernels.json: cannot be written: " in warning
    assert "not remembered" in warning


def test_the_shipped_results_are_of_these_kernels() -> None:
    from gmpq.backends.tvm.tuning.tune import SHIPPED

    if SHIPPED.exists():
        assert json.loads(SHIPPED.read_text())["kernels"] == KERNELS_VERSION


def test_of_equal_times_the_first_choice_decides_in_whatever_order_they_come() -> None:
    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        if site.node.name == "block.conv":
            names = [name_of(choice) for choice in choices]
            for order in (names, sorted(names), names[::-1]):
                assert fastest(choices, dict.fromkeys(order, 0.25)).choice == choices[0]
        return cheapest(site, choices)

    plan(residual(), find("native"), choose)
