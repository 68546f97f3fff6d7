"""Depthwise convolution in bytes: what it proves and refuses, and its programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.depthwise import x86_bytes
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_bytes_loops import CHANNELS, order
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import FusedScale
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, IntGraph, QParams, Window
from gmpq.runtime import Network
from tests.support.depthwise_layers import WINDOWS, layer, site_of

BITS = 5  # up to which random layers are exact in int16
TARGETS = ("native", "x86-64-v3")


def test_lanes_hold_every_channel_once() -> None:
    assert sorted(order().reshape(-1)) == list(range(CHANNELS))


@pytest.mark.parametrize("column", [(65, 64, 0), (0, 127, 2), (1, 0, -128, -1)])
def test_pairs_that_saturate(column: tuple[int, ...]) -> None:
    taps = np.array(column, np.int8)[None, :, None]
    assert x86_bytes.saturates(taps, 255)
    assert not x86_bytes.saturates(taps, 127)


@pytest.mark.parametrize("column", [(127, 1), (-128, 0, -128), (127, -128, 127), (64, 64)])
def test_pairs_that_just_fit(column: tuple[int, ...]) -> None:
    taps = np.array(column, np.int8)[None, :, None]
    assert not x86_bytes.saturates(taps, 255)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("seed", range(4))
def test_every_tile_equals_the_reference(
    seed: int, window: Window, target: str, tmp_path: Path
) -> None:
    if not find(target).runs_here() or "avx512vnni" in find(target).features:
        pytest.skip(f"{target} does not run here, or has better")
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([30, 32, 64, 80, 130]))
    height, width = (int(n) for n in rng.integers(8, 34, 2))
    graph = layer(rng, window, (channels, height, width), BITS)
    check(graph, target, seed, tmp_path)


def check(graph: IntGraph, target: str, number: int, folder: Path) -> None:
    """Assert that a tile's program equals the reference on codes from end to end."""
    chosen = []

    def by_bytes(_site: Site, choices: Sequence[Choice]) -> Verdict:
        own = [choice for choice in choices if choice[0].name == "depthwise_bytes"] or choices
        chosen.append(own[number % len(own)][0].name)
        return Verdict(own[number % len(own)])

    q, shape = graph.values["x"].q, graph.values["image"].shape
    assert q is not None
    rng = np.random.default_rng(number)
    image = rng.uniform(-q.zero_point - 2, q.maximum - q.zero_point + 2, shape).astype(np.float32)
    network = Network(folder, build(graph, find(target), folder, by_bytes).program)
    assert chosen[1] == "depthwise_bytes"
    expected = reference.run(graph, {"image": image})["y"]
    np.testing.assert_array_equal(expected, dict(network.trace(image))["y"])


def test_sums_that_just_fit(tmp_path: Path) -> None:
    """Accumulators span almost all of int16, and codes reach both ends."""
    if not find("x86-64-v3").runs_here():
        pytest.skip("x86-64-v3 does not run here")
    graph = layer(np.random.default_rng(3), Window((3, 1)), (64, 9, 9))
    node, x, y = graph.nodes[1], graph.values["x"], graph.values["y"]
    assert isinstance(node, Conv2d)
    signs = np.where(np.arange(64) % 2 == 0, 1, -1)
    node.weight.codes[:, 0, :, 0] = signs[:, None] * [127, 0, 105]
    node.weight.scale[:] = 0.00413
    values = {
        "x": replace(x, q=QParams.full(1.0, 0, 8)),
        "y": replace(y, q=QParams.full(1.0, 9, 8)),
    }
    graph = replace(graph, values={**graph.values, **values})
    scale = x86_bytes.prove(site_of(graph, "x86-64-v3"))
    assert isinstance(scale, FusedScale)
    check(graph, "x86-64-v3", 0, tmp_path)


def refusal(graph: IntGraph, target: str = "x86-64-v3") -> str | None:
    return x86_bytes.refuses(site_of(graph, target))


def with_taps(graph: IntGraph, codes: NDArray[np.int8]) -> IntGraph:
    """Return the graph with other weights, for codes of eight bits."""
    node, x = graph.nodes[1], graph.values["x"]
    assert isinstance(node, Conv2d)
    weight = replace(node.weight, codes=np.broadcast_to(codes, node.weight.codes.shape))
    nodes = (graph.nodes[0], replace(node, weight=weight), graph.nodes[2])
    full = replace(x, q=QParams.full(1.0, 0, 8))
    return replace(graph, nodes=nodes, values={**graph.values, "x": full})


def test_what_is_refused() -> None:
    graph = layer(np.random.default_rng(0), Window((3, 3)), (32, 9, 9), BITS)
    assert refusal(graph) is None
    assert refusal(graph, "arm64") == "needs AVX2"
    assert "four rows" in str(refusal(graph, "x86-64-v4-vnni"))
    wide = np.array([100, 100, 0], np.int8)[:, None]
    assert refusal(with_taps(graph, wide)) == "some pair of products does not fit int16"
    alone = np.array([100, 0, 100], np.int8)[:, None]
    assert refusal(with_taps(graph, alone)) == (
        "a channel's sums span 153000: int16 distinguishes 65536"
    )
    few = layer(np.random.default_rng(0), Window((3, 3)), (16, 9, 9), BITS)
    assert refusal(few) == "needs 32 channels"


def test_steps_beyond_int32_are_refused() -> None:
    graph = layer(np.random.default_rng(0), Window((3, 3)), (32, 9, 9), BITS)
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    node.weight.scale[:] = 1e9
    assert "beyond int32" in str(refusal(graph))


def test_a_kernel_of_many_rows_and_columns_is_refused() -> None:
    graph = layer(np.random.default_rng(0), Window((71, 71)), (32, 80, 80), 2)
    assert "take more than 128 KiB" in str(refusal(graph))
