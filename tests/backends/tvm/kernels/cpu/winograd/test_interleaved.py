"""Kernels of the next group that are transformed between products: programs are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.plan.plan import Choice, Verdict, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.support.single_layers import check, network_of, random_weight
from tests.support.vnni import on_any_processor

FORM = "transformed between products"


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> Target:
    return replace(on_any_processor(monkeypatch), l2_bytes=1 << 20)


def graph_of(
    rng: np.random.Generator, channels: tuple[int, int], bits: tuple[int, int], stride: int = 1
) -> IntGraph:
    """Return a 3x3 convolution; bits are those of codes, of at most six, and of weights."""
    inputs, outputs = channels
    weight = random_weight(rng, (outputs, inputs, 3, 3), bits[1])
    window = Window((3, 3), (stride, stride), Padding(*(int(n) for n in rng.integers(0, 2, 4))))
    node = Conv2d("conv", ("x",), "y", weight, window)
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits[0])), bits[0])
    return network_of(node, q, (int(rng.integers(6, 10)), 7), batch=int(rng.integers(1, 3)))


@pytest.mark.parametrize("bits", range(2, 6), ids="w{}".format)
@pytest.mark.parametrize("seed", range(5))
def test_programs_equal_the_reference(seed: int, bits: int, vnni: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([3, 8, 37, 64, 130])), int(rng.choice([40, 70, 100]))
    graph = graph_of(rng, channels, (int(rng.integers(1, 7)), bits), stride=1 + seed % 2)
    assert check(graph, vnni, tmp_path, "winograd", seed, FORM)


@pytest.mark.parametrize("bits", [6, 7, 8], ids="w{}".format)
@pytest.mark.parametrize("seed", range(3))
def test_what_saturates_goes_to_overflow_steps(
    seed: int, bits: int, vnni: Target, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    graph = graph_of(rng, (130, 70), (6, bits), stride=1 + (bits > 6) * (seed % 2))
    (node,) = (node for node in graph.nodes if isinstance(node, Conv2d))
    node.weight.codes[:] = np.clip(node.weight.codes, -14, 14)
    node.weight.codes[::2, :2] = (1 << (bits - 1)) - 1  # nine of them exceed a byte
    node.weight.codes[1::3, 1] = -(1 << (bits - 1))
    assert check(graph, vnni, tmp_path, "winograd", seed, f"overflow steps, 8-bit kernels {FORM}")


@pytest.mark.parametrize("bits", [2, 4])
def test_every_weight_and_code_at_the_limit(bits: int, vnni: Target, tmp_path: Path) -> None:
    graph = graph_of(np.random.default_rng(0), (64, 64), (6, bits))
    (node,) = (node for node in graph.nodes if isinstance(node, Conv2d))
    node.weight.codes[:] = -(1 << (bits - 1))
    node.weight.codes[::3] = (1 << (bits - 1)) - 1
    assert check(graph, vnni, tmp_path, "winograd", 0, FORM)


def names(graph: IntGraph, target: Target) -> list[str]:
    """Return the names of all Winograd candidates."""
    found: list[str] = []

    def choose(_site: object, choices: Sequence[Choice]) -> Verdict:
        found.extend(c.configuration for family, c in choices if family.name == "winograd")
        return Verdict(choices[0])

    plan(graph, target, choose)
    return found


def test_a_single_group_has_no_next_one() -> None:
    graph = graph_of(np.random.default_rng(0), (64, 16), (4, 4))
    found = names(graph, find("x86-64-v4-vnni"))
    assert any("transformed" in name for name in found)
    assert not any(FORM in name for name in found)


def test_threads_have_parts_of_the_groups() -> None:
    graph = graph_of(np.random.default_rng(0), (64, 512), (4, 4))
    found = [name for name in names(graph, find("x86-64-v4-vnni")) if FORM in name]
    if graph.values["x"].shape[0] == 1:
        assert any(name.endswith("in 2 parts") for name in found)


@pytest.mark.parametrize("target", ["x86-64-v3", "arm64", "arm64-dotprod", "arm64-i8mm"])
def test_other_instructions_do_not_alternate(target: str) -> None:
    graph = graph_of(np.random.default_rng(0), (64, 512), (4, 4))
    assert not any(FORM in name for name in names(graph, find(target)))
