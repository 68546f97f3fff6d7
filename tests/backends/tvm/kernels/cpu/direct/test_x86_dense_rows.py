"""First layers on VNNI, whose pixels have no padding channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.direct.x86_dense_steps import GATHERED_BYTES, RowSteps
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import layouts
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Value, Window
from tests.support.single_layers import V3, check, network_of, random_weight
from tests.support.vnni import on_any_processor

VNNI = find("x86-64-v4-vnni")
AMX = replace(VNNI, name="amx", features=VNNI.features | {"amx-tile", "amx-int8"})
WINDOWS = (
    Window((7, 7), (2, 2), Padding(3, 3, 3, 3)),
    Window((3, 3), (2, 2), Padding(1, 1, 1, 1)),
    Window((3, 3), (1, 1), Padding(0, 2, 1, 0)),
    Window((2, 5), (3, 4), Padding(1, 0, 0, 2), (3, 1)),
    Window((1, 2), (1, 3)),
    Window((4, 2), (1, 1), Padding(0, 0, 3, 1)),
)


def first_layer(rng: np.random.Generator, window: Window, inputs: int, width: int = 21) -> IntGraph:
    """Return a layer of random bits, outputs and zero point on two images 12 pixels high."""
    bits, weight_bits = (int(n) for n in rng.integers(1, 9, 2))
    outputs = int(rng.integers(1, 90))
    weight = random_weight(rng, (outputs, inputs, *window.kernel), weight_bits)
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    return network_of(Conv2d("conv", ("x",), "y", weight, window), q, (12, width), 2)


@pytest.mark.parametrize("form", ["steps", "gathered"])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_first_layers_equal_the_reference(
    window: Window, inputs: int, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = on_any_processor(monkeypatch)
    rng = np.random.default_rng([inputs, *window.kernel])
    cuts = [RowSteps(window.kernel[0], window.kernel[1] * inputs, way) for way in (False, True)]
    if form == "gathered" and cuts[1].total >= cuts[0].total:
        pytest.skip("no steps are saved")
    for number in range(2):
        width = int(rng.integers(12, 40))
        graph = first_layer(rng, window, inputs, width)
        assert check(graph, target, tmp_path, "direct_dense", number, form)


def test_narrow_images_equal_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows have fewer pixels than a vector."""
    target = on_any_processor(monkeypatch)
    for width in (1, 2, 3, 7):
        rng = np.random.default_rng(width)
        graph = first_layer(rng, Window((3, 3), (2, 1), Padding(1, 1, 1, 1)), 3, width)
        assert check(graph, target, tmp_path, "direct_dense", width)


def test_the_largest_sums_equal_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = first_layer(np.random.default_rng(0), WINDOWS[0], 3)
    conv = graph.nodes[1]
    assert isinstance(conv, Conv2d)
    conv.weight.codes[:] = -128
    values = {**graph.values, "x": replace(graph.values["x"], q=QParams.full(1.0, 255, 8))}
    target = on_any_processor(monkeypatch)
    assert check(replace(graph, values=values), target, tmp_path, "direct_dense", 0, "gathered")


@pytest.mark.parametrize(
    ("kernel", "inputs", "padded", "gathered"),
    [(7, 3, 42, 37), (3, 3, 9, 7), (5, 3, 20, 19), (5, 1, 10, 7), (3, 2, 6, 5), (3, 1, 3, 3)],
)
def test_steps_of_a_window(kernel: int, inputs: int, padded: int, gathered: int) -> None:
    cuts = [RowSteps(kernel, kernel * inputs, way) for way in (False, True)]
    assert [steps.total for steps in cuts] == [padded, gathered]


def test_steps_hold_every_weight_once() -> None:
    codes = np.arange(1, 55, dtype=np.int8).reshape(2, 3, 3, 3)
    for way in (False, True):
        steps = RowSteps(3, 9, way)
        arranged = steps.arrange(codes)
        assert arranged.shape == (2, 4 * steps.total, 1, 1)
        for output, of in zip(arranged, codes, strict=True):
            assert sorted(output[output != 0]) == sorted(of.reshape(-1))


def stored(graph: IntGraph, target: Target) -> int:
    return layouts(graph, target.layout_rules)["x"].stored


def test_only_vnni_without_amx_stores_dense_pixels() -> None:
    graph = first_layer(np.random.default_rng(0), WINDOWS[0], 3)
    assert [stored(graph, target) for target in (VNNI, AMX, V3)] == [3, 4, 4]


def test_pixels_are_padded_where_a_reader_needs_it() -> None:
    rng = np.random.default_rng(0)
    for window in (Window((1, 1)), Window((3, 3), dilation=(1, 2))):
        assert stored(first_layer(rng, window, 3), VNNI) == 4
    assert stored(first_layer(rng, WINDOWS[0], 4), VNNI) == 4
    graph = first_layer(rng, WINDOWS[0], 3)
    weight = random_weight(rng, (8, 3, 1, 1), 8)
    one = Conv2d("one", ("x",), "z", weight, Window((1, 1)))
    z = Value("z", (2, 8, 12, 21), QParams.full(1.0, 0, 8))
    both = replace(graph, values={**graph.values, "z": z}, nodes=(*graph.nodes, one))
    assert stored(both, VNNI) == 4


def test_kernels_refuse_what_they_cannot_read() -> None:
    graph, refused = first_layer(np.random.default_rng(0), WINDOWS[1], 3), {}

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        refused[site.node.name] = {family.name for family, _ in choices}
        return cheapest(site, choices)

    plan(graph, VNNI, choose)
    assert refused["conv"] == {"direct_dense"}
    plan(graph, AMX, choose)
    assert "direct_dense" not in refused["conv"]


@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_no_step_reads_beyond_the_slack(window: Window, inputs: int) -> None:
    """The last step of the last row of taps of the last pixel reads the furthest."""
    graph = first_layer(np.random.default_rng(0), window, inputs)
    x = layouts(graph, VNNI.layout_rules)["x"]
    last = [size - 1 for size in window.output_size(x.height, x.width)]
    row = last[0] * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0]
    column = last[1] * window.stride[1] - window.padding.left
    first = x.origin + (row - window.padding.top) * x.row + column * x.stored
    steps = RowSteps(window.kernel[0], window.kernel[1] * inputs, gathers=False)
    end = (x.batch - 1) * x.image + first + steps.whole * GROUP
    assert end - x.size <= GROUP - 1 <= VNNI.layout_rules.slack


def test_bytes_on_the_stack_have_a_bound() -> None:
    """Wide images are read without gathering."""
    window = Window((3, 3), (2, 2), Padding(1, 1, 1, 1))
    graph = first_layer(np.random.default_rng(0), window, 3, 40000)
    names = []

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        names.extend(c.configuration for family, c in choices if family.name == "direct_dense")
        return cheapest(site, choices)

    plan(graph, VNNI, choose)
    assert names
    assert not any("gathered" in name for name in names)
    assert GATHERED_BYTES < 40000 // 2 * 4
