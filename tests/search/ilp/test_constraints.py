"""Costs equal the published ones, by their own conventions."""

from __future__ import annotations

import numpy as np
import pytest

from gmpq import models
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.policy import LayerBits
from gmpq.search.ilp import constraints
from gmpq.search.ilp.baselines import uniform
from gmpq.search.ilp.solver import Assignment
from gmpq.search.ilp.space import Layer, Space, space_of
from tests.support.published import limpq_bops, limpq_macs

LEVELS = {"w2a2": 4, "w3a3": 9, "w3a4": 12, "w4a4": 16}

# network: all MACs, MACs of the searched layers, how many those are
EXACT = {
    "resnet18": (1_814_073_344, 1_695_547_392, 19),
    "resnet50": (4_089_184_256, 3_969_122_304, 52),
    "resnet50_v1": (3_857_973_248, 3_737_911_296, 52),
    "mobilenet_v1": (568_740_352, 556_878_336, 26),
    "cifar_resnet18": (555_422_720, 553_648_128, 19),
    "cifar_resnet50": (1_297_829_888, 1_296_039_936, 52),
}

# LIMPQ's GBOPs at the levels above: its table prints 23.07 and 9.68 for two of them
LIMPQ = {
    "resnet18": (14.50, 23.06, 28.19, 35.04),
    "resnet50": (23.85, 43.96, 56.04, 72.13),
    "mobilenet_v1": (2.99, 5.78, 7.45, 9.68),
}


@pytest.mark.parametrize("name", EXACT)
def test_macs_of_networks(name: str) -> None:
    arch = models.find(name)
    graph = lower(arch.build(), (1, *arch.shape), name)
    space = space_of(graph)
    searched = space.searched
    assert (space.macs, sum(layer.macs for layer in searched), len(searched)) == EXACT[name]
    macs = limpq_macs(graph)
    found = [limpq_bops(macs, level) / 1e9 for level in LEVELS.values()]
    if name in LIMPQ:
        np.testing.assert_allclose(found, LIMPQ[name], atol=0.006)
    bits = uniform(space, LayerBits(3, 4))
    measured = cost.measure(graph, bits)
    assert constraints.bops(space, 0.0).total(assignment(space, 1, 2)) == measured.bops
    published = constraints.published_bops(space, 0.0).total(assignment(space, 1, 2))
    assert published == pytest.approx(12 * space.macs)
    assert published == pytest.approx(measured.published_bops)


@pytest.mark.parametrize(
    ("printed", "gmacs", "name"),
    [
        pytest.param(1853.4, 1.81, "resnet18", id="resnet18"),
        pytest.param(3952.6, 3.86, "resnet50_v1", id="resnet50: the first version"),
        pytest.param(337.9, 0.33, None, id="mobilenet_v2: a profiler's count, not conv and fc"),
    ],
)
def test_float_bops_in_tables_are_rounded_macs(
    printed: float, gmacs: float, name: str | None
) -> None:
    assert round(gmacs * 1024, 1) == printed
    if name is not None:
        assert round(EXACT[name][0] / 1e9, 2) == gmacs


def assignment(space: Space, weight: int, read: int) -> Assignment:
    return np.array([[weight, read]] * len(space.searched))


def small() -> Space:
    wide = LayerBits(8, 8)
    return Space(
        (
            Layer("first", 100, 10, wide),
            Layer("second", 300, 40),
            Layer("third", 500, 80),
            Layer("pool", 7, 3, wide, auxiliary=True),
            Layer("last", 20, 20, wide),
        ),
        (2, 3),
        (4, 6),
    )


def test_rows_by_hand() -> None:
    space = small()
    chosen = np.array([[0, 1], [1, 0]])  # second w2a6, third w3a4
    searched = 300 * 12 + 500 * 12
    assert constraints.bops(space, 0).total(chosen) == 64 * 127 + searched
    assert constraints.published_bops(space, 0).total(chosen) == pytest.approx(927 * searched / 800)
    assert constraints.mean_product(space, 0).total(chosen) == pytest.approx(12)
    assert constraints.size(space, 0).total(chosen) == 10 + 3 + 20 + 40 * 2 / 8 + 80 * 3 / 8


def test_compression_is_limpqs_size_constraint() -> None:
    """``8 * (first + last) + sum weights * w <= 32 * total / ratio``, in bits."""
    constraint = constraints.compression(small(), 12.2)
    assert constraint.limit * 8 == pytest.approx(32 * 153 / 12.2)
    assert constraint.total(assignment(small(), 0, 0)) * 8 == 8 * 33 + 2 * 120
