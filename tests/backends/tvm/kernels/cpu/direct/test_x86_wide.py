"""1x1 layers of few channels: tiles, requantizations, residuals and copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.direct import x86_wide
from gmpq.backends.tvm.kernels.cpu.direct.x86_wide import WideTile, channels_of, lanes_of
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import find
from gmpq.ir import (
    Add,
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    Requantize,
    Value,
    Window,
)
from gmpq.runtime import Network
from tests.support.single_layers import check, network_of, random_weight
from tests.support.vnni import narrowing_on_any_processor

VNNI = find("x86-64-v4-vnni")
ORDERED, WHOLE = (WideTile(1, 6, 4, prefetched=False), WideTile(1, 4, 6, prefetched=False))
OUTPUTS = (17, 32, 40, 64, 70, 96, 110, 128, 192, 250)


def layer(seed: int, bits: tuple[int, int, int]) -> IntGraph:
    """Return a random 1x1 convolution with ``bits`` of its inputs, weights and outputs."""
    rng = np.random.default_rng(seed)
    inputs, outputs = int(rng.choice([3, 16, 24, 33])), int(rng.choice(OUTPUTS))
    weight = random_weight(rng, (outputs, inputs, 1, 1), bits[1])
    weight = replace(weight, scale=weight.scale * np.float32(30 / (1 << bits[0])))
    padding = Padding(*(int(n) for n in rng.integers(0, 2, 4)))
    window = Window((1, 1), (int(rng.integers(1, 3)), int(rng.integers(1, 3))), padding)
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits[0])), bits[0])
    size = (int(rng.integers(1, 9)), int(rng.integers(1, 12)))
    graph = network_of(
        Conv2d("conv", ("x",), "y", weight, window), q, size, int(rng.integers(1, 3))
    )
    own = QParams.full(16 / (1 << bits[2]), int(rng.integers(0, 1 << bits[2])), bits[2])
    return replace(graph, values={**graph.values, "y": replace(graph.values["y"], q=own)})


@pytest.mark.parametrize("seed", range(28))
def test_random_layers_equal_the_reference(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rng = narrowing_on_any_processor(monkeypatch), np.random.default_rng(seed)
    bits = tuple(int(n) for n in rng.integers(1, 9, 3))
    graph = layer(seed, (bits[0], bits[1], bits[2]))
    assert check(graph, target, tmp_path, "direct_wide", seed)


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        pytest.param((4, 4, 4), "in int16", id="few bits"),
        pytest.param((8, 8, 8), "by fma", id="many bits"),
    ],
)
def test_the_shortest_requantization_that_is_proven(bits: tuple[int, int, int], name: str) -> None:
    found = []

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        found.extend(c.configuration for family, c in choices if family.name == "direct_wide")
        return cheapest(site, choices)

    plan(layer(1, bits), VNNI, choose)
    assert found
    assert all(configuration.endswith(f"pixels outside, {name}") for configuration in found)


def test_what_exceeds_the_second_level_cache_is_prefetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = replace(narrowing_on_any_processor(monkeypatch), l2_bytes=64 << 10)
    weight = random_weight(np.random.default_rng(0), (96, 8, 1, 1), 4)
    node = Conv2d("conv", ("x",), "y", weight, Window((1, 1)))
    near, far = (network_of(node, QParams.full(1.0, 3, 4), (n, n), 1) for n in (29, 33))
    assert not check(near, target, tmp_path, "direct_wide", 0, "prefetched")
    assert check(far, target, tmp_path, "direct_wide", 0, "prefetched")


def test_outputs_of_a_group_lie_in_the_order_of_the_instructions() -> None:
    assert sorted(lanes_of(ORDERED)) == list(range(64))
    assert lanes_of(ORDERED)[:8].tolist() == [0, 1, 2, 3, 16, 17, 18, 19]
    assert lanes_of(WHOLE).tolist() == list(range(96))
    channels = channels_of(WHOLE)
    assert channels.shape == (3, 4, 16)
    assert channels[:, :, 0].tolist() == [[0, 16, 32, 48], [64, 80, 0, 16], [32, 48, 64, 80]]


# --- residuals and copies ------------------------------------------------------------------------


def block(seed: int, bits: int) -> IntGraph:
    """Return a 1x1 convolution, the addition after it, and a copy of the sum that is read."""
    rng = np.random.default_rng(seed)
    inputs, outputs = (int(rng.choice(sizes)) for sizes in ([5, 16], [64, 96, 128, 192]))
    q, own = QParams.full(1.0, 3, 4), QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    total, few = QParams.full(1.0, int(rng.integers(0, 9)), 8), QParams.full(17.0, 0, 4)
    size = (2, int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    shapes = {"x": (size[0], inputs, *size[1:]), "c": (size[0], outputs, *size[1:])}
    encodings = {"x": q, "r": total, "c": own, "y": total, "z": few, "end": total}
    values = {
        name: Value(name, shapes["x" if name in ("image", "x") else "c"], encodings.get(name))
        for name in ("image", "other", "x", "r", "c", "y", "z", "end", "real", "more")
    }
    weight = random_weight(rng, (outputs, inputs, 1, 1), 4)
    last = random_weight(rng, (outputs, outputs, 3, 3), 4)
    nodes = (
        Quantize("qx", ("image",), "x"),
        Quantize("qr", ("other",), "r"),
        Conv2d("conv", ("x",), "c", weight, Window((1, 1))),
        Add("add", ("c", "r"), "y"),
        Requantize("copy", ("y",), "z"),
        Conv2d("last", ("z",), "end", last, Window((3, 3), padding=Padding(1, 1, 1, 1))),
        Dequantize("real", ("end",), "real"),
        Dequantize("more", ("y",), "more"),
    )
    graph: IntGraph = Graph("block", ("image", "other"), ("real", "more"), values, nodes)
    return graph


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_residuals_and_copies_equal_the_reference(
    seed: int, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, graph = narrowing_on_any_processor(monkeypatch), block(seed, bits)

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        if site.node.name != "conv":
            return cheapest(site, choices)
        found = [choice for choice in choices if choice[0] is x86_wide.FAMILY]
        return Verdict(found[seed % len(found)])

    program = build(graph, target, tmp_path, choose).program
    assert [step.node for step in program.steps].count("add") == 0
    rng = np.random.default_rng(seed)
    images = {
        image: rng.uniform(0, high, graph.values[image].shape).astype(np.float32)
        for image, high in (("image", 15), ("other", 255))
    }
    expected = reference.run(graph, images)
    for name, found in Network(tmp_path, program).trace(images["image"], images["other"]):
        np.testing.assert_array_equal(expected[name], found)
