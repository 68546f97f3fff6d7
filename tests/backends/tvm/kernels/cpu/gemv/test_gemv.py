"""Fully connected layers with packed weights: what they refuse, and their programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.base import Site, Tensor
from gmpq.backends.tvm.kernels.cpu.epilogue import site as epilogues
from gmpq.backends.tvm.kernels.cpu.gemv import gemv
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd
from gmpq.backends.tvm.kernels.layout import layouts
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import RULES, CpuTarget
from gmpq.ir import IntGraph, Linear
from tests.support.single_layers import check, random_linear
from tests.support.vnni import arithmetic

AVX2, VNNI = find("x86-64-v3"), find("x86-64-v4-vnni")
LARGE = (1, 700, 100)


@pytest.mark.parametrize("bits", [(8, 1), (8, 2), (5, 3), (8, 4), (7, 5), (8, 6), (8, 8)], ids=str)
@pytest.mark.parametrize("sizes", [LARGE, (2, 2100, 33), (1, 8192, 9)], ids=str)
@pytest.mark.parametrize("target", [AVX2, VNNI], ids=lambda target: target.name)
def test_packed_weights_equal_the_reference(
    target: Target, sizes: tuple[int, int, int], bits: tuple[int, int], tmp_path: Path
) -> None:
    if not target.runs_here():
        pytest.skip(f"{target.name} does not run here")
    if target == VNNI and bits[1] > gemv.PACKED:
        pytest.skip("VNNI reads bytes")
    graph = random_linear(np.random.default_rng([*sizes, *bits]), bits, sizes)
    assert check(graph, target, tmp_path, "gemv", bits[1])


def test_seven_bits_whose_pairs_saturate_are_read_as_bytes(tmp_path: Path) -> None:
    if not AVX2.runs_here():
        pytest.skip(f"{AVX2.name} does not run here")
    graph = random_linear(np.random.default_rng(0), (8, 8), LARGE)
    linear = graph.nodes[1]
    assert isinstance(linear, Linear)
    codes = linear.weight.codes
    np.clip(codes, -100, 27, out=codes)
    codes[0, :2] = (-100, 27)
    assert check(graph, AVX2, tmp_path, "gemv", 0, "4+4 bits")


def site_of(graph: IntGraph) -> Site[CpuTarget]:
    """Return the layer's site."""
    placed = layouts(graph, RULES)
    x, y = (Tensor(graph.values[name], placed[name]) for name in ("x", "y"))
    return Site(graph.nodes[1], (x,), y, VNNI)


def test_refusals_tell_the_reason() -> None:
    rng = np.random.default_rng(0)
    site = site_of(random_linear(rng, (8, 4), LARGE))
    assert gemv.refuses(site) is None
    assert gemv.refuses(replace(site, target=find("arm64"))) == "needs AVX2"
    reason = gemv.refuses(site_of(random_linear(rng, (8, 4), (1, 70, 10))))
    assert reason == "has 700 weights: caches hold them"
    node = site.node
    assert isinstance(node, Linear)
    node.weight.codes[0, :2] = (-127, 127)
    assert gemv.refuses(site) == "has weights of 8 bits: bytes are read as fast"
    assert gemv.refuses(replace(site, target=AVX2)) is None


def test_sums_beyond_int32_are_refused() -> None:
    site = site_of(random_linear(np.random.default_rng(0), (8, 4), LARGE))
    node = site.node
    assert isinstance(node, Linear)
    node.weight.bias[:] = (1 << 31) - 1000
    node.weight.codes[:] = -node.weight.codes.astype(np.int8)
    q = site.inputs[0].value.q
    assert q is not None
    value = replace(site.inputs[0].value, q=replace(q, zero_point=0))
    reason = gemv.refuses(replace(site, inputs=(replace(site.inputs[0], value=value),)))
    assert reason is not None
    assert "beyond int32" in reason


@pytest.mark.parametrize("bits", [(8, 8), (8, 4), (4, 4)], ids=str)
def test_a_large_layer_is_read_packed_without_tuning(bits: tuple[int, int], tmp_path: Path) -> None:
    graph = random_linear(np.random.default_rng(bits), bits, (1, 1280, 1000))
    (_, linear, _) = build(graph, AVX2, tmp_path).plan.steps
    assert linear.kernel == "gemv"


@pytest.mark.parametrize("bits", [1, 3, 5, 6])
def test_the_form_of_vnni_on_any_processor(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vpdpbusd, "accumulate", arithmetic)
    monkeypatch.setattr(epilogues, "vpmaddubsw_lanes", lambda _: None)  # of the requantization
    target = replace(AVX2, features=AVX2.features | {"avx512vnni", "avx512bw"})
    graph = random_linear(np.random.default_rng(bits), (8, bits), (2, 700, 100))
    assert check(graph, target, tmp_path, "gemv", bits)
