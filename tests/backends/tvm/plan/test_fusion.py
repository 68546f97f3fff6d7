"""What convolutions take over, and programs of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq import spec
from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.kernels.requant import exact_factor
from gmpq.backends.tvm.plan.fusion import Fusion, fusions
from gmpq.backends.tvm.plan.plan import Choice, PlanOptions, Verdict
from gmpq.backends.tvm.plan.registry import CPU
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import (
    Add,
    Conv2d,
    Dequantize,
    IntGraph,
    Node,
    Padding,
    QParams,
    Requantize,
    Value,
    Window,
)
from gmpq.runtime import Network
from tests.support.builders import Q8, chain, residual, weight
from tests.support.single_layers import BASELINE, V3, WITHOUT_VNNI
from tests.support.strategies import random_input

TARGETS = (BASELINE, V3, WITHOUT_VNNI, find("x86-64-v4-vnni"), find("native"))
here = [pytest.param(t, id=f"{t.name}-{i}") for i, t in enumerate(TARGETS) if t.runs_here()]

IMAGE = (2, 24, 5, 7)
POINT, THREE = Window((1, 1)), Window((3, 3), padding=Padding(1, 1, 1, 1))
SUM = QParams(Q8.scale, 17, 8, 17, 255)


def fusions_of(graph: IntGraph) -> dict[str, Fusion]:
    """Return what convolutions take over on a CPU, by the convolution's name."""
    return fusions(graph, CPU.copies_exactly)


def test_the_last_convolution_of_a_block_takes_its_addition() -> None:
    (fusion,) = fusions_of(residual()).items()
    name, taken = fusion
    assert name == "block.conv"
    assert [node.name for node in taken.nodes] == ["block.add"]
    assert taken.stores_result


def test_a_value_that_others_read_is_kept() -> None:
    graph = residual()
    assert fusions_of(replace(graph, outputs=(*graph.outputs, "block.conv"))) == {}


def test_the_sum_equals_the_reference(tmp_path: Path) -> None:
    graph = residual()
    program = build(graph, find("native"), tmp_path).program
    assert "block.add" not in [step.node for step in program.steps]
    inputs = random_input(graph, 0)
    found = dict(Network(tmp_path, program).trace(inputs["x"]))
    assert "block.conv" not in found
    np.testing.assert_array_equal(reference.run(graph, inputs)["block.add"], found["block.add"])


# --- copies --------------------------------------------------------------------------------------


def narrow(bits: int, zero_point: int = 0) -> QParams:
    """Return an encoding of few bits of what Q8 holds."""
    return QParams.full(Q8.scale * 250 / (1 << bits), zero_point, bits)


def layer(name: str, source: str, x: QParams, y: QParams, window: Window, seed: int = 0) -> Node:
    """Return a convolution of as many channels as it reads."""
    codes = weight((IMAGE[1], IMAGE[1], *window.kernel), 4, x, y, seed)
    return Conv2d(name, (source,), "", codes, window)


def stream(copies: dict[str, QParams], *, read: bool, add: bool) -> IntGraph:
    """Return a layer whose codes are copied; ``read`` by others too, ``add`` to the input first."""
    own, total = replace(Q8, zero_point=100), SUM if add else Q8
    steps: list[tuple[Node, tuple[int, ...], QParams]] = [
        (layer("conv", "codes", Q8, own if add else total, POINT), IMAGE, own if add else total)
    ]
    if add:
        steps.append((Add("add", ("conv", "codes"), ""), IMAGE, total))
    last = steps[-1][0].name
    steps += [(Requantize(name, (last,), ""), IMAGE, q) for name, q in copies.items()]
    steps += [
        (layer(f"from.{name}", name, q, Q8, THREE, seed), IMAGE, Q8)
        for seed, (name, q) in enumerate(copies.items())
    ]
    if read:
        steps.append((layer("from.codes", last, total, Q8, THREE), IMAGE, Q8))
    return with_outputs(chain(steps, IMAGE, Q8), [f"from.{name}" for name in copies])


def with_outputs(graph: IntGraph, names: Sequence[str]) -> IntGraph:
    """Return ``graph`` with ``names`` among its outputs."""
    reals = [Value(f"{name}.real", graph.values[name].shape) for name in names]
    dequantized = [
        Dequantize(real.name, (name,), real.name) for name, real in zip(names, reals, strict=True)
    ]
    values = {**graph.values, **{real.name: real for real in reals}}
    outputs = (*graph.outputs, *(real.name for real in reals))
    graph = replace(graph, outputs=outputs, values=values, nodes=(*graph.nodes, *dequantized))
    spec.check(graph)
    return graph


STREAMS = [
    pytest.param({"a4": narrow(4)}, False, False, id="the-copy-alone"),
    pytest.param({"a4": narrow(4, 7)}, True, False, id="beside-its-source"),
    pytest.param({"a4": narrow(4), "a2": narrow(2, 1)}, True, True, id="two-of-a-sum"),
    pytest.param({"a8": narrow(8, 3), "a6": narrow(6)}, False, True, id="only-copies-of-a-sum"),
]


@pytest.mark.parametrize(("copies", "read", "add"), STREAMS)
def test_copies_are_made_by_the_convolution(
    copies: dict[str, QParams], read: bool, add: bool
) -> None:
    graph = stream(copies, read=read, add=add)
    (fusion,) = fusions_of(graph).values()
    assert [node.name for node in fusion.nodes] == [*(["add"] if add else []), *copies]
    assert fusion.stores_result == read


@pytest.mark.parametrize(("copies", "read", "add"), STREAMS)
@pytest.mark.parametrize("target", here)
def test_copies_equal_the_reference(
    target: Target, copies: dict[str, QParams], read: bool, add: bool, tmp_path: Path
) -> None:
    graph = stream(copies, read=read, add=add)
    program = build(graph, target, tmp_path).program
    inputs = random_input(graph, 0)
    expected = reference.run(graph, inputs)
    found = dict(Network(tmp_path, program).trace(inputs["x"]))
    hidden = {*(["conv"] if add or not read else []), *(["add"] if add and not read else [])}
    assert expected.keys() - found.keys() == {"x", *hidden}
    for name, codes in found.items():
        np.testing.assert_array_equal(expected[name], codes, err_msg=name)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("target", here)
def test_every_kernel_writes_copies(target: Target, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    copies = {f"a{bits}": narrow(int(bits), int(rng.integers(0, 1 << bits))) for bits in (3, 5)}
    graph = stream(copies, read=bool(seed % 2), add=bool(seed % 3))

    def choose(_site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        return Verdict(choices[int(rng.integers(len(choices)))])

    program = build(graph, target, tmp_path, choose).program
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    for name, codes in Network(tmp_path, program).trace(inputs["x"]):
        np.testing.assert_array_equal(expected[name], codes, err_msg=name)


def test_without_fusion_every_value_is_shown(tmp_path: Path) -> None:
    graph = stream({"a4": narrow(4)}, read=False, add=True)
    program = build(graph, find("native"), tmp_path, options=PlanOptions(fuse=False)).program
    image = random_input(graph, 0)["x"]
    names = {name for name, _ in Network(tmp_path, program).trace(image)}
    assert names == {node.output for node in graph.nodes}


def test_a_copy_without_a_factor_is_not_taken() -> None:
    half = QParams.full(2 * Q8.scale, 0, 8)
    assert exact_factor(Q8, half) is None
    assert fusions_of(stream({"half": half}, read=False, add=False)) == {}
    (fusion,) = fusions_of(stream({"half": half, "a4": narrow(4)}, read=False, add=False)).values()
    assert [node.name for node in fusion.nodes] == ["a4"]
    assert fusion.stores_result


def test_other_producers_copy_by_themselves() -> None:
    graph = chain(
        [
            (Requantize("a4", ("codes",), ""), IMAGE, narrow(4)),
            (layer("conv", "", narrow(4), Q8, POINT), IMAGE, Q8),
        ],
        IMAGE,
        Q8,
    )
    assert fusions_of(graph) == {}
