"""The algebra of exact Winograd convolution, its proof, and its programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof, prove, split
from gmpq.backends.tvm.kernels.cpu.winograd.space_to_depth import folded
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import TRANSFORMS, Transform
from gmpq.backends.tvm.plan.plan import Choice, Verdict
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import (
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Value,
    Window,
)
from gmpq.numerics import weight_limits
from gmpq.runtime import Network
from tests.support.single_layers import check
from tests.support.vnni import on_any_processor

IN_BYTES = re.compile(r"F\(2x2\), \d+ tiles, (?!int16)")
transforms = pytest.mark.parametrize("transform", TRANSFORMS, ids=str)


@transforms
@pytest.mark.parametrize("form", ["as written", "scaled down", "scaled by 15", "scaled by 32"])
def test_the_matrices_compute_a_convolution(transform: Transform, form: str) -> None:
    if form != "as written":
        own, transform = transform, in_form(transform, form)
        assert transform.scale == own.scale
    rng = np.random.default_rng(0)
    k = transform.kernel
    tile = rng.integers(0, 50, (transform.reach, transform.reach))
    kernel = rng.integers(-50, 50, (k, k))
    b, g, a = (np.array(m) for m in (transform.input, transform.weight, transform.output))
    found = a @ ((g @ kernel @ g.T) * (b @ tile @ b.T)) @ a.T
    corners = range(0, transform.size * transform.stride, transform.stride)
    expected = [[(tile[i : i + k, j : j + k] * kernel).sum() for j in corners] for i in corners]
    np.testing.assert_array_equal(transform.scale * np.array(expected), found)


def in_form(transform: Transform, form: str) -> Transform:
    return (
        transform.scaled_down
        if form == "scaled down"
        else transform.scaled_up(int(form.split()[-1]))
    )


@transforms
def test_scaled_up_weights_stay_below_the_limit(transform: Transform) -> None:
    for limit in (1, 15, 16, 32):
        rows = zip(transform.weight, transform.scaled_up(limit).weight, strict=True)
        for own, scaled in rows:
            assert scaled == own or sum(map(abs, scaled)) <= limit


def conv(
    rng: np.random.Generator, weight_bits: int, channels: tuple[int, int], size: int = 3
) -> Conv2d:
    """Return a convolution of ``size`` x ``size`` with bell-shaped weights."""
    low, high = weight_limits(weight_bits)
    inputs, outputs = channels
    bell = rng.normal(0, high / 2.5, (outputs, inputs, size, size)).round()
    codes = np.where(bell == 0, 1, bell) if weight_bits == 1 else bell
    scale = rng.uniform(0.5, 1.5, outputs).astype(np.float32) / np.float32(high * 3 * inputs**0.5)
    bias = rng.integers(-50, 50, outputs).astype(np.int32)
    weight = QWeight(np.clip(codes, low, high).astype(np.int8), scale, bias, weight_bits)
    window = Window((size, size), padding=Padding(1, 1, 1, 1))
    return Conv2d("conv", ("x",), "y", weight, window)


@transforms
@given(bits=st.integers(1, 6), zero_point=st.integers(0, 63), seed=st.integers(0, 99))
def test_a_proof_bounds_every_value(
    transform: Transform, bits: int, zero_point: int, seed: int
) -> None:
    q = QParams.full(1.0, zero_point % (1 << bits), bits)
    rng = np.random.default_rng(seed)
    proof = prove(conv(rng, 3, (4, 4), transform.kernel), q, transform)
    if isinstance(proof, str):
        return
    b = np.array(transform.input)
    corners = rng.choice([0, q.maximum], (200, transform.reach, transform.reach))
    moved = (b @ corners @ b.T).reshape(200, -1) + proof.offsets
    assert moved.min() >= 0
    assert moved.max() <= 255


CASES = [
    pytest.param(7, 4, "spreads 128 input codes over 509: 256 fit", id="wide-input"),
    pytest.param(4, 8, "makes weights of", id="wide-weights"),
]


@pytest.mark.parametrize(("input_bits", "weight_bits", "reason"), CASES)
def test_what_does_not_fit_is_refused_with_the_reason(
    input_bits: int, weight_bits: int, reason: str
) -> None:
    node = conv(np.random.default_rng(0), weight_bits, (16, 16))
    found = prove(node, QParams.full(1.0, 0, input_bits), TRANSFORMS[0])
    reasons = found if isinstance(found, str) else split(found)
    assert isinstance(reasons, str)
    assert reason in reasons


def test_weights_beyond_a_byte_are_split_in_two() -> None:
    node = conv(np.random.default_rng(0), 5, (1, 1))
    node.weight.codes[:] = 15  # the centre sums nine of them: 135
    proof = prove(node, QParams.full(1.0, 0, 4), TRANSFORMS[0])
    assert isinstance(proof, Proof)
    assert proof.splits == ()
    parts = split(proof)
    assert isinstance(parts, Proof)
    assert parts.splits == (5,)
    assert parts.weights[[5, 16], 0, 0].astype(int).sum() == 135


def network_of(node: Conv2d, q: QParams, size: tuple[int, int], batch: int) -> IntGraph:
    """Return quantize, the convolution, dequantize."""
    outputs, inputs = node.weight.codes.shape[:2]
    rows, columns = node.window.output_size(*size)
    values = (
        Value("image", (batch, inputs, *size)),
        Value("x", (batch, inputs, *size), q),
        Value("y", (batch, outputs, rows, columns), QParams.full(0.37, 128, 8)),
        Value("real", (batch, outputs, rows, columns)),
    )
    io = Quantize("quantize", ("image",), "x"), Dequantize("dequantize", ("y",), "real")
    nodes = (io[0], node, io[1])
    return Graph("g", ("image",), ("real",), {v.name: v for v in values}, nodes)


def test_a_folded_kernel_computes_the_same() -> None:
    rng = np.random.default_rng(0)
    image, kernel = rng.integers(0, 9, (3, 12, 12)), rng.integers(-9, 9, (1, 3, 7, 5))
    pixels = image.reshape(3, 6, 2, 6, 2).transpose(2, 4, 0, 1, 3).reshape(12, 6, 6)
    small = folded(kernel)
    assert small.shape == (1, 12, 4, 3)
    for i, j in product(range(3), range(4)):
        expected = (image[:, 2 * i : 2 * i + 7, 2 * j : 2 * j + 5] * kernel[0]).sum()
        assert (pixels[:, i : i + 4, j : j + 3] * small[0]).sum() == expected


@pytest.mark.parametrize("target", ["native", "x86-64-v4-vnni"])
@pytest.mark.parametrize("seed", range(12))
def test_winograd_programs_equal_the_reference(seed: int, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits, weight_bits = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    height, width = (int(n) for n in rng.integers(4, 14, 2))
    inputs, outputs = (int(n) for n in rng.choice([3, 17, 24, 64, 80], 2))
    if find(target).layout_rules.dense_pixels:
        inputs = max(inputs, GROUP)  # fewer are read by another family
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    padding = Padding(*(int(n) for n in rng.integers(0, 2, 4)))
    node = conv(rng, weight_bits, (inputs, outputs))
    node = replace(node, window=replace(node.window, padding=padding))
    graph = network_of(node, q, (height, width), batch=1 + seed % 2)
    chosen = []

    def winograd(_site: Site, choices: Sequence[Choice]) -> Verdict:
        """Return a different Winograd candidate for each seed."""
        found = [choice for choice in choices if choice[0].name == "winograd"] or choices
        chosen.append(found[seed % len(found)])
        return Verdict(chosen[-1])

    image = rng.uniform(
        -q.zero_point, q.maximum - q.zero_point, (1 + seed % 2, inputs, height, width)
    )
    sample = image.astype(np.float32)
    if not find(target).runs_here():
        pytest.skip(f"{target} does not run here")
    network = Network(tmp_path, build(graph, find(target), tmp_path, winograd).program)
    assert chosen[1][0].name == "winograd"
    expected = reference.run(graph, {"image": sample})["y"]
    np.testing.assert_array_equal(expected, dict(network.trace(sample))["y"])


@pytest.mark.parametrize("number", range(6))
def test_what_exceeds_a_byte_is_added_once(number: int, tmp_path: Path) -> None:
    node = conv(np.random.default_rng(0), 5, (16, 32))
    node.weight.codes[:, :2] = 15  # nine of them exceed a byte
    q = QParams.full(1.0, 0, 4)
    proof = prove(node, q, TRANSFORMS[0])
    assert isinstance(proof, Proof)
    parts = split(proof)
    assert isinstance(parts, Proof)
    assert parts.splits

    def winograd(_site: Site, choices: Sequence[Choice]) -> Verdict:
        own = [choice for choice in choices if IN_BYTES.match(str(choice[1].configuration))]
        return Verdict((own or choices)[number % len(own or choices)])

    graph = network_of(node, q, (22, 22), batch=1)  # 121 tiles, in blocks of 61, 41, 31 ...
    network = Network(tmp_path, build(graph, find("native"), tmp_path, winograd).program)
    assert network.steps[1].kernel == "winograd"
    sample = np.random.default_rng(1).uniform(0, q.maximum, (1, 16, 22, 22)).astype(np.float32)
    expected = reference.run(graph, {"image": sample})["y"]
    np.testing.assert_array_equal(expected, dict(network.trace(sample))["y"])


@pytest.mark.parametrize("seed", range(6))
def test_the_form_of_vnni_on_any_processor(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = on_any_processor(monkeypatch)
    bits = 2 + seed % 3
    node = conv(np.random.default_rng(seed), bits + 1, (24, 40))
    graph = network_of(node, QParams.full(1.0, seed % 4, bits), (9, 10), batch=1)
    assert check(graph, target, tmp_path, "winograd", seed, "vnni ")


@pytest.mark.parametrize("bits", [2, 5])
def test_products_by_amx_compile_everywhere(bits: int, tmp_path: Path) -> None:
    target = find("x86_64-linux-gnu,sapphirerapids")
    node = conv(np.random.default_rng(0), bits, (256, 256))
    node.weight.codes[:, :2] = node.weight.codes.max()  # at five bits nine of them exceed a byte
    graph = network_of(node, QParams.full(1.0, 0, bits), (14, 14), batch=1)
    taken = []

    def amx(_site: Site, choices: Sequence[Choice]) -> Verdict:
        own = [c for c in choices if c[0].name == "winograd" and " amx " in c[1].configuration]
        taken.extend(own[:1])
        return Verdict((own or choices)[0])

    build(graph, target, tmp_path, amx)
    assert taken
