"""Layers that write float32: every kernel of every target, and refusals that say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.qemu import missing
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.support.single_layers import (
    BASELINE,
    V3,
    WITHOUT_VNNI,
    check,
    network_of,
    random_linear,
    random_weight,
    writing_float32,
)

ARM = (find("arm64"), find("arm64-dotprod"), find("arm64-i8mm"), find("armv7"))
X86 = (BASELINE, V3, WITHOUT_VNNI, find("x86-64-v4-vnni"), find("native"))
HERE = [pytest.param(t, id=f"{t.name}-{i}") for i, t in enumerate(X86) if t.runs_here()]
EMULATED = [
    pytest.param(
        target,
        id=target.name,
        marks=[
            pytest.mark.arm,
            pytest.mark.skipif((why := missing(target)) is not None, reason=str(why)),
        ],
    )
    for target in ARM
]
CODES_ONLY = ("depthwise_rows", "depthwise_bytes", "direct_wide")


def convolution(
    channels: tuple[int, int], kernel: int, bits: tuple[int, int], stride: int = 1, groups: int = 1
) -> IntGraph:
    """Return two images of a convolution with uneven padding, of bits of codes and weights."""
    inputs, outputs = channels
    rng = np.random.default_rng(inputs + outputs)
    weight = random_weight(rng, (outputs, inputs // groups, kernel, kernel), bits[1])
    window = Window((kernel, kernel), (stride, stride), Padding(kernel // 2, 0, kernel // 2, 1))
    node = Conv2d("conv", ("x",), "y", weight, window, groups)
    q = QParams.full(1.0, (1 << bits[0]) // 3, bits[0])
    return writing_float32(network_of(node, q, (9, 11), 2))


def linear(inputs: int, outputs: int, bits: tuple[int, int]) -> IntGraph:
    return writing_float32(random_linear(np.random.default_rng(inputs), bits, (3, inputs, outputs)))


LAYERS = {
    "3x3": convolution((24, 37), 3, (8, 8)),
    "3x3-few-bits": convolution((32, 70), 3, (4, 3)),
    "3x3-one-bit": convolution((64, 24), 3, (1, 1)),
    "3x3-stride": convolution((32, 24), 3, (6, 7), 2),
    "7x7-stride": convolution((3, 33), 7, (8, 8), 2),
    "1x1": convolution((48, 255), 1, (8, 7)),
    "grouped": convolution((12, 18), 3, (8, 8), 1, 3),
    "depthwise": convolution((40, 40), 3, (8, 6), 1, 40),
    "linear": linear(300, 100, (8, 8)),
    "linear-few-bits": linear(270, 250, (4, 3)),
}


def families(graph: IntGraph, target: Target) -> tuple[set[str], Mapping[str, str]]:
    """Return the kernels that accept a layer, and why others do not."""
    accepting: set[str] = set()

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        if isinstance(site.node, type(graph.nodes[1])):
            accepting.update(family.name for family, _ in choices)
        return Verdict(choices[0])

    step = plan(graph, target, choose).steps[1]
    return accepting, step.refusals


@pytest.mark.parametrize("target", HERE + EMULATED)
def test_every_kernel_writes_float32(target: Target, tmp_path: Path) -> None:
    left: dict[str, IntGraph] = {}
    for graph in LAYERS.values():
        accepting, _ = families(graph, target)
        assert accepting, "some kernel always accepts"
        left |= dict.fromkeys(accepting, graph)
    for number, (family, graph) in enumerate(left.items()):
        folder = tmp_path / family
        folder.mkdir()
        assert check(graph, target, folder, family, number)


@pytest.mark.parametrize("target", X86 + ARM, ids=lambda target: target.name)
@pytest.mark.parametrize("graph", LAYERS.values(), ids=LAYERS)
def test_only_some_kernels_need_codes(graph: IntGraph, target: Target) -> None:
    coded = replace(graph.values["y"], q=QParams.full(0.37, 128, 8))
    codes, _ = families(replace(graph, values={**graph.values, "y": coded}), target)
    reals, refusals = families(graph, target)
    assert codes - reals <= {*CODES_ONLY}
    assert reals <= codes
    for family in codes - reals:
        assert refusals[family] == "writes codes, not float32"
