"""Codes widened to int16 once for all blocks of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.direct import x86_widened
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, IntGraph
from tests.support.single_layers import WITHOUT_VNNI, check, random_convolution

V3 = find("x86-64-v3")
here = [pytest.param(t, id=t.name) for t in (V3, WITHOUT_VNNI) if t.runs_here()]


def site_of(graph: IntGraph, target: Target) -> Site:
    sites = []

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        sites.append(site)
        return cheapest(site, choices)

    plan(graph, target, choose)
    return next(site for site in sites if isinstance(site.node, Conv2d))


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(40))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    graph = random_convolution(rng, (8, 8))
    taken = check(graph, target, tmp_path, "direct_words", seed)
    assert taken == (x86_widened.refuses(site_of(graph, target)) is None)


def test_few_bits_stay_bytes() -> None:
    graph = random_convolution(np.random.default_rng(0), (4, 4))
    assert x86_widened.refuses(site_of(graph, V3)) is not None
