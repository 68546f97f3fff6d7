"""Stages without the padding channels of a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape
from gmpq.backends.tvm.kernels.cpu.direct.x86_widened_rows import staged
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, Dequantize, IntGraph, Padding, QParams, Value, Window
from gmpq.runtime import Network
from tests.support.single_layers import check, network_of, random_weight

V3 = find("x86-64-v3")
WINDOWS = (
    Window((3, 3), (2, 2), Padding(1, 1, 1, 1)),
    Window((3, 3), (1, 2), Padding(0, 1, 2, 0)),
    Window((7, 7), (2, 2), Padding(3, 3, 3, 3)),
    Window((2, 4), (2, 4), Padding(1, 2, 0, 3), (3, 1)),
)


def first_layer(rng: np.random.Generator, window: Window, inputs: int, width: int) -> IntGraph:
    weight = random_weight(rng, (20, inputs, *window.kernel), 8)
    node = Conv2d("conv", ("x",), "y", weight, window, 1)
    return network_of(node, QParams.full(1.0, int(rng.integers(0, 256)), 8), (11, width), 2)


def shape_of(window: Window, channels: int, left: int) -> DirectShape:
    x = Layout(1, channels, 11, 13, 4, Padding(4, left, 4, 4))
    y = Layout(1, 8, 5, 6, 8)
    return DirectShape(window, x, y, -(-channels // 2), channels, 8, 8, group=2)


@pytest.mark.skipif(not V3.runs_here(), reason="needs AVX2")
@pytest.mark.parametrize("width", range(12, 16))
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_first_layers_equal_the_reference(
    window: Window, inputs: int, width: int, tmp_path: Path
) -> None:
    graph = first_layer(np.random.default_rng(width), window, inputs, width)
    assert check(graph, V3, tmp_path, "direct_words", width)


@pytest.mark.skipif(not V3.runs_here(), reason="needs AVX2")
def test_a_wider_halo_for_another_layer(tmp_path: Path) -> None:
    """One layer needs three columns of padding, the other one begins two columns further right."""
    rng = np.random.default_rng(0)
    graph = first_layer(rng, WINDOWS[2], 3, 13)
    window = WINDOWS[0]
    other = Conv2d("other", ("x",), "z", random_weight(rng, (8, 3, 3, 3), 8), window, 1)
    z = Value("z", (2, 8, *window.output_size(11, 13)), QParams.full(0.5, 128, 8))
    graph = replace(
        graph,
        outputs=(*graph.outputs, "z_real"),
        values={**graph.values, "z": z, "z_real": Value("z_real", z.shape)},
        nodes=(*graph.nodes, other, Dequantize("end", ("z",), "z_real")),
    )

    def words(site: Site, choices: Sequence[Choice]) -> Verdict:
        found = [choice for choice in choices if choice[0].name == "direct_words"]
        return cheapest(site, found or choices)

    program = build(graph, V3, tmp_path, words).program
    assert [step.kernel for step in program.steps].count("direct_words") == 2
    image = rng.uniform(-300, 300, (2, 3, 11, 13)).astype(np.float32)
    expected = reference.run(graph, {"image": image})
    for name, found in Network(tmp_path, program).trace(image):
        np.testing.assert_array_equal(expected[name], found)


def test_three_channels_of_four_take_fewer_steps() -> None:
    shape = shape_of(Window((3, 3), (2, 2), Padding(1, 1, 1, 1)), 3, 1)
    assert (shape.steps, staged(shape).steps) == (18, 15)
    assert staged(shape).x.row % 2 == 0


@pytest.mark.parametrize(
    ("window", "channels", "left"),
    [
        pytest.param(Window((3, 3), (2, 1)), 3, 0, id="pixels begin within a step"),
        pytest.param(Window((3, 3), (2, 2)), 3, 1, id="the halo ends within a step"),
        pytest.param(Window((3, 3), (2, 2), dilation=(1, 2)), 3, 0, id="taps lie apart"),
        pytest.param(Window((3, 3), (2, 2)), 2, 0, id="steps are full"),
        pytest.param(Window((3, 1), (2, 2)), 3, 0, id="one column of taps"),
    ],
)
def test_other_layers_keep_their_channels(window: Window, channels: int, left: int) -> None:
    shape = shape_of(window, channels, left)
    assert staged(shape).steps == shape.steps
    assert staged(shape).x.stored == 4
