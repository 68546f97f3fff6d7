"""Depthwise convolution over rows: how it is cut, what it refuses, and its programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.depthwise import x86_rows
from gmpq.backends.tvm.kernels.cpu.depthwise.taps import Taps
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_lanes import (
    VpdpbusdPermuted,
    VpdpbusdUnpacked,
    VpmaddwdUnpacked,
)
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_tiling import ChannelBlocks
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, QParams, Window
from gmpq.runtime import Network
from tests.support.depthwise_layers import WINDOWS, layer, site_of


def test_two_rows_of_outputs_share_four_rows_of_codes() -> None:
    taps = Taps(Window((3, 1)), rows=2, per_lane=4)
    assert taps.groups == [[(0, 0), (1, 0), (2, 0), (3, 0)]]
    assert taps.products(0) == [(0, 0, [(0, 0), (1, 0), (2, 0), None])]
    assert taps.products(1) == [(0, 0, [None, (0, 0), (1, 0), (2, 0)])]


def test_a_repeated_row_has_no_taps() -> None:
    taps = Taps(Window((3, 1), (2, 1)), rows=1, per_lane=4)
    assert taps.groups == [[(0, 0), (1, 0), (2, 0), (2, 0)]]
    assert taps.products(0) == [(0, 0, [(0, 0), (1, 0), (2, 0), None])]


def test_dilated_rows_are_read_once() -> None:
    taps = Taps(Window((3, 1), dilation=(2, 1)), rows=2, per_lane=2)
    assert taps.groups == [[(0, 0), (1, 0)], [(2, 0), (3, 0)], [(4, 0), (5, 0)]]
    assert taps.products(1) == [
        (0, 0, [None, (0, 0)]),
        (0, 1, [None, (1, 0)]),
        (0, 2, [None, (2, 0)]),
    ]


def test_rows_left_over_share_a_lane_with_the_next_columns() -> None:
    """The last lane begins further left than it must, so that no column beyond is read."""
    taps = Taps(Window((3, 3), dilation=(1, 2)), rows=1, per_lane=2, across=True)
    assert taps.groups == [[(0, 0), (1, 0)], [(2, 0), (2, 2)]]
    assert taps.products(0) == [
        (0, 0, [(0, 0), (1, 0)]),
        (0, 1, [(2, 0), (2, 1)]),
        (1, 0, [(0, 1), (1, 1)]),
        (1, 1, [None, (2, 2)]),
        (2, 0, [(0, 2), (1, 2)]),
    ]


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("per_lane", [2, 4])
@pytest.mark.parametrize("rows", range(1, 5))
@pytest.mark.parametrize("window", WINDOWS)
def test_every_tap_of_an_output_meets_its_code_once(
    window: Window, rows: int, per_lane: int, across: bool
) -> None:
    taps = Taps(window, rows, per_lane, across)
    for output in range(rows):
        met = [
            (tap, (row, s * window.dilation[1] + column))
            for s, group, found in taps.products(output)
            for tap, (row, column) in zip(found, taps.groups[group], strict=True)
            if tap is not None
        ]
        down, (far, wide) = output * window.stride[0], window.dilation
        wanted = {(r, s): (down + r * far, s * wide) for r, s in np.ndindex(*window.kernel)}
        assert len(met) == len(wanted)
        assert dict(met) == wanted


@pytest.mark.parametrize(
    "lanes",
    [VpdpbusdUnpacked(), VpdpbusdPermuted(permutes_bytes=True), VpmaddwdUnpacked()],
    ids=repr,
)
def test_lanes_hold_every_channel_once(
    lanes: VpdpbusdUnpacked | VpdpbusdPermuted | VpmaddwdUnpacked,
) -> None:
    assert sorted(lanes.order.reshape(-1)) == list(range(lanes.channels))


def test_the_last_block_of_a_part_overlaps() -> None:
    assert ChannelBlocks(VpdpbusdUnpacked(), 0, 80).order().reshape(2, -1).min(axis=1).tolist() == [
        0,
        16,
    ]


TARGETS = ("native", "x86-64-v4-vnni", "x86-64-v3")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("seed", range(2))
def test_every_tile_equals_the_reference(
    seed: int, window: Window, target: str, tmp_path: Path
) -> None:
    if not find(target).runs_here():
        pytest.skip(f"{target} does not run here")
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([7, 16, 30, 64, 80, 130]))
    height, width = (int(n) for n in rng.integers(8, 34, 2))
    graph = layer(rng, window, (channels, height, width))
    chosen = []

    def by_rows(_site: Site, choices: Sequence[Choice]) -> Verdict:
        """Return a different candidate for each seed."""
        found = [choice for choice in choices if choice[0].name == "depthwise_rows"] or choices
        chosen.append(found[seed % len(found)])
        return Verdict(chosen[-1])

    q = graph.values["x"].q
    assert q is not None
    shape = graph.values["image"].shape
    image = rng.uniform(-q.zero_point - 2, q.maximum - q.zero_point + 2, shape).astype(np.float32)
    network = Network(tmp_path, build(graph, find(target), tmp_path, by_rows).program)
    assert chosen[1][0].name == "depthwise_rows"
    expected = reference.run(graph, {"image": image})["y"]
    np.testing.assert_array_equal(expected, dict(network.trace(image))["y"])


@pytest.mark.parametrize("target", TARGETS)
def test_accumulators_that_float32_rounds(target: str, tmp_path: Path) -> None:
    """A large bias leaves no way to requantize by one instruction."""
    if not find(target).runs_here():
        pytest.skip(f"{target} does not run here")
    graph = layer(np.random.default_rng(5), Window((3, 3)), (64, 9, 9))
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    node.weight.bias[:] = 1 << 29
    node.weight.scale[:] = 20.5 / (1 << 29)
    x, y = graph.values["x"], replace(graph.values["y"], q=QParams.full(1.0, 0, 8))
    assert x.q is not None
    graph = replace(graph, values={**graph.values, "y": y})
    image = np.random.default_rng(1).uniform(0, x.q.maximum, x.shape).astype(np.float32)
    program = build(graph, find(target), tmp_path).program
    assert program.steps[1].kernel == "depthwise_rows"
    expected = reference.run(graph, {"image": image})["y"]
    found = dict(Network(tmp_path, program).trace(image))["y"]
    np.testing.assert_array_equal(expected, found)


def test_steps_beyond_int32_are_refused() -> None:
    graph = layer(np.random.default_rng(0), Window((3, 3)), (16, 5, 5))
    site = site_of(graph, "x86-64-v4-vnni")
    assert x86_rows.refuses(site) is None
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    huge = replace(node.weight, scale=np.full(16, 1e9, np.float32))
    reason = x86_rows.refuses(replace(site, node=replace(node, weight=huge)))
    assert reason is not None
    assert "beyond int32" in reason


def test_other_processors_and_large_kernels_are_refused() -> None:
    graph = layer(np.random.default_rng(0), Window((3, 3)), (16, 5, 5))
    assert x86_rows.refuses(site_of(graph, "arm64")) == "needs AVX2 or AVX-512 VNNI"
    graph = layer(np.random.default_rng(0), Window((31, 31)), (16, 40, 40))
    reason = x86_rows.refuses(site_of(graph, "x86-64-v4-vnni"))
    assert reason == "the kernel is too large for the registers"
