"""The measured times that gmpq ships are found by the networks that they were measured for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, name_of, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import Tuning, key_of, worth_measuring
from ship_tuning import quantized

EXAMPLES = Path(__file__).parents[4] / "examples"
# The Zen 3 that they were measured on, with a quarter of its last-level cache.
ZEN3 = dataclasses.replace(find("x86_64-linux-gnu,znver3"), llc_share_bytes=8 << 20)
CHANGED = ("layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2")
CHANGED += ("layer3.0.conv1", "layer4.0.conv1")  # have other candidates than were measured


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "missing"),
    [
        pytest.param("efficientnet_lite0_mixed", (), id="lite0"),
        pytest.param("resnet18_mixed", CHANGED, id="resnet18"),
    ],
)
def test_the_layers_of_examples_are_known(example: str, missing: tuple[str, ...]) -> None:
    tunings = [Tuning(TuningLevel.OFF, threads) for threads in (1, 2)]
    known = tunings[0].known
    unknown: dict[int, list[str]] = {1: [], 2: []}

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        for tuning in tunings if worth_measuring(site, choices) else ():
            measured = known.get(key_of(site, choices, tuning), {})
            if not {name_of(choice) for choice in choices} & set(measured):
                unknown[tuning.threads].append(site.node.name)
        return cheapest(site, choices)

    plan(quantized(EXAMPLES / f"{example}.json"), ZEN3, choose)
    assert {threads: tuple(names) for threads, names in unknown.items()} == {
        1: missing,
        2: missing,
    }
