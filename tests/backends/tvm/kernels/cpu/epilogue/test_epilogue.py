"""How accumulators of a tile are grouped, and what is proven before they are packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq import spec
from gmpq.backends import reference
from gmpq.backends.reference import Tensor
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums, vector_groups
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import STEPS, accumulators, largest_step
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import (
    Add,
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    Value,
    Window,
)
from gmpq.runtime import Network
from tests.support.single_layers import (
    BASELINE,
    V3,
    WITHOUT_VNNI,
    random_convolution,
    random_weight,
)

TARGETS = (BASELINE, V3, WITHOUT_VNNI, find("x86-64-v4-vnni"), find("native"))
here = [pytest.param(t, id=f"{t.name}-{i}") for i, t in enumerate(TARGETS) if t.runs_here()]

TILES = [
    pytest.param(1, 4, [[(0, 4)]], id="one-pixel"),
    pytest.param(4, 1, [[(0, 1), (1, 1), (2, 1), (3, 1)]], id="four-pixels"),
    pytest.param(3, 2, [[(0, 2), (2, 2)], [(0, 2)]], id="a-rest-of-two"),
    pytest.param(
        4, 3, [[(0, 2), (2, 1), (3, 1)], [(0, 2), (2, 2)], [(0, 1), (1, 1), (2, 2)]], id="threes"
    ),
    pytest.param(1, 1, [[(0, 1)]], id="a-rest-of-one"),
]


@pytest.mark.parametrize(("pixels", "vectors", "expected"), TILES)
def test_a_run_begins_at_a_multiple_of_its_length(
    pixels: int, vectors: int, expected: list[list[tuple[int, int]]]
) -> None:
    sums = [PixelSums((0, 0, p), [f"{p} {v}" for v in range(vectors)]) for p in range(pixels)]
    groups = list(vector_groups(sums, 0, 8, 4))
    assert [[(run.place, run.count) for run in group.runs] for group in groups] == expected
    every = [(f"{p} {v}", 8 * v) for p in range(pixels) for v in range(vectors)]
    assert [vector for group in groups for vector in group.vectors] == every


# --- the proof -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_accumulators_stay_within_their_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_convolution(rng, (int(rng.integers(1, 9)), int(rng.integers(1, 9))))
    node, x, y = graph.nodes[1], graph.values["x"], graph.values["y"]
    assert isinstance(node, Conv2d)
    assert x.q is not None
    assert y.q is not None
    low, high = accumulators(node.weight, x.q)
    for codes in (rng.integers(0, x.q.high + 1, x.shape), rng.choice([0, x.q.high], x.shape)):
        acc = reference.convolve(codes.astype(np.uint8), x.q.zero_point, node)
        assert (acc >= low[:, None, None]).all()
        assert (acc <= high[:, None, None]).all()
        steps = acc.astype(np.float32) * (
            np.float32(x.q.scale) * node.weight.scale / np.float32(y.q.scale)
        ).reshape(-1, 1, 1)
        assert np.abs(steps).max() <= largest_step(node.weight, x.q, y.q)


# --- programs ------------------------------------------------------------------------------------


def encoding(rng: np.random.Generator) -> QParams:
    """Return 8 bits of scale 1 with any zero point, often clipped."""
    zero = int(rng.choice([0, 128, int(rng.integers(0, 256))]))
    low = int(rng.choice([0, 0, int(rng.integers(0, 128))]))
    high = int(rng.choice([255, 255, int(rng.integers(low, 256))]))
    return QParams(1.0, zero, 8, low, high)


def block(rng: np.random.Generator, *, share: bool) -> IntGraph:
    """Return a convolution of one input, added to another one; some share a zero point."""
    bits, weight_bits = (int(n) for n in rng.choice([2, 4, 8], 2))
    size = tuple(int(n) for n in rng.integers(3, 9, 2))
    inputs, outputs = (int(n) for n in rng.choice([3, 8, 17, 24, 40, 56], 2))
    kernel = int(rng.choice([1, 3]))
    own, term, total = (encoding(rng) for _ in range(3))
    if share:
        total = replace(total, zero_point=term.zero_point)
    shapes = ((2, inputs, *size), (2, outputs, *size))
    encodings = {"x": QParams.full(1.0, 3 % (1 << bits), bits), "r": term, "c": own, "y": total}
    names = (("image", 0), ("other", 1), ("x", 0), ("r", 1), ("c", 1), ("y", 1), ("real", 1))
    values = {name: Value(name, shapes[i], encodings.get(name)) for name, i in names}
    weight = random_weight(rng, (outputs, inputs, kernel, kernel), weight_bits)
    weight = replace(weight, scale=weight.scale * np.float32(60 / (1 << bits)))
    nodes = (
        Quantize("qx", ("image",), "x"),
        Quantize("qr", ("other",), "r"),
        Conv2d(
            "conv",
            ("x",),
            "c",
            weight,
            Window((kernel, kernel), padding=Padding(*[kernel // 2] * 4)),
        ),
        Add("add", ("c", "r"), "y"),
        Dequantize("end", ("y",), "real"),
    )
    graph: IntGraph = Graph("block", ("image", "other"), ("real",), values, nodes)
    spec.check(graph)
    return graph


def images(graph: IntGraph, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return images whose codes are all that their values can hold."""
    found = {}
    for image, name in (("image", "x"), ("other", "r")):
        q = graph.values[name].q
        assert q is not None
        codes = rng.integers(0, q.maximum + 1, graph.values[name].shape)
        found[image] = (codes - q.zero_point).astype(np.float32) * np.float32(q.scale)
    return found


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(16))
def test_a_fused_addition_equals_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    graph = block(rng, share=seed % 2 == 0)

    def choose(_site: Site, choices: Sequence[Choice]) -> Verdict:
        return Verdict(choices[seed % len(choices)])

    program = build(graph, target, tmp_path, choose).program
    assert "add" not in [step.node for step in program.steps]
    network = Network(tmp_path, program)
    inputs = images(graph, rng)
    expected = reference.run(graph, inputs)["y"]
    found = dict(network.trace(*(inputs[name] for name in graph.inputs)))["y"]
    np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("target", here)
def test_steps_beyond_int32_are_not_packed(target: Target, tmp_path: Path) -> None:
    graph = block(np.random.default_rng(3), share=True)
    (conv,) = (node for node in graph.nodes if isinstance(node, Conv2d))
    huge = replace(conv.weight, scale=conv.weight.scale * np.float32(1e8))
    nodes = tuple(replace(node, weight=huge) if node is conv else node for node in graph.nodes)
    graph = replace(graph, nodes=nodes)
    x, own = graph.values["x"].q, graph.values["c"].q
    assert x is not None
    assert own is not None
    assert largest_step(huge, x, own) > STEPS
    epilogues = []

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        if isinstance(site.node, Conv2d):
            epilogues.append(epilogue_of(site))
        return cheapest(site, choices)

    program = build(graph, target, tmp_path, choose).program
    assert [epilogue.narrowed_lanes for epilogue in epilogues] == [None]
    inputs = images(graph, np.random.default_rng(0))
    found = dict(Network(tmp_path, program).trace(*(inputs[name] for name in graph.inputs)))["y"]
    np.testing.assert_array_equal(reference.run(graph, inputs)["y"], found)


def test_targets_pack_as_many_lanes_as_they_narrow() -> None:
    graph = block(np.random.default_rng(0), share=True)
    found = {}
    for target in (find("arm64"), BASELINE, V3, WITHOUT_VNNI, find("x86-64-v4-vnni")):

        def choose(site: Site, choices: Sequence[Choice], name: str = target.name) -> Verdict:
            if isinstance(site.node, Conv2d):
                found[name] = epilogue_of(site).narrowed_lanes
            return cheapest(site, choices)

        plan(graph, target, choose)
    assert list(found.values()) == [None, None, 8, 16, 16]
