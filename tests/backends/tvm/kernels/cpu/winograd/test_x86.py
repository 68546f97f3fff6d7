"""Winograd convolution without VNNI: bytes added in int16 over proven runs, and int16 operands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof, prove_int16, scaled_up
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import TRANSFORMS, Transform
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import WITHOUT_VNNI, check, network_of, random_weight

TARGETS = (find("x86-64-v3"), WITHOUT_VNNI, find("x86-64-v4-vnni"))
here = [pytest.param(t, id=t.name) for t in TARGETS if t.runs_here()]


def conv(
    rng: np.random.Generator, weight_bits: int, channels: tuple[int, int], size: int = 3
) -> Conv2d:
    inputs, outputs = channels
    weight = random_weight(rng, (outputs, inputs, size, size), weight_bits)
    window = Window((size, size), padding=Padding(1, 1, 1, 1))
    return Conv2d("conv", ("x",), "y", weight, window)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_int16_holds_every_value_of_eight_bits(transform: Transform) -> None:
    rng = np.random.default_rng(0)
    node = conv(rng, 8, (16, 16), transform.kernel)
    proof = prove_int16(node, QParams.full(1.0, 128, 8), transform)
    assert isinstance(proof, Proof)
    b = np.array(transform.input)
    corners = rng.choice([0, 255], (500, transform.reach, transform.reach))
    moved = (b @ corners @ b.T).reshape(500, -1)
    assert np.abs(moved).max() <= np.iinfo(np.int16).max
    assert (np.ptp(moved, axis=0) <= proof.spans).all()


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_int16_holds_weights_with_factors_of_the_output(transform: Transform, bits: int) -> None:
    node = conv(np.random.default_rng(0), bits, (16, 16), transform.kernel)
    node.weight.codes[:] = node.weight.codes[:1, :1]  # sums of one sign, too
    node.weight.codes[0] = (1 << (bits - 1)) - 1
    proof = prove_int16(node, QParams.full(1.0, 1, bits), transform)
    assert isinstance(proof, Proof)
    more = scaled_up(proof, node)
    taps = node.weight.codes[0, 0].astype(int)
    matrix = np.array(more.transform.weight)
    expected = (matrix @ taps @ matrix.T).reshape(-1)
    np.testing.assert_array_equal(more.weights[:, 0, 0], expected)
    np.testing.assert_array_equal(more.sums[:, 0], 16 * expected)


def test_accumulators_beyond_int32_are_refused() -> None:
    node = conv(np.random.default_rng(0), 8, (256, 4))
    node.weight.codes[:] = 127
    node.weight.bias[:] = 0  # 64 * 9 * 256 * 127 * 255 = 4775362560
    found = prove_int16(node, QParams.full(1.0, 0, 8), TRANSFORMS[2])
    assert found == "F(4x4) makes accumulators of 4775362560: int32 holds 2147483647"
    assert isinstance(prove_int16(node, QParams.full(1.0, 0, 8), TRANSFORMS[0]), Proof)


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(32))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits, weight_bits = (8, 8) if seed % 4 == 0 else (int(n) for n in rng.integers(1, 9, 2))
    if seed % 4 == 1:
        bits, weight_bits = 1 + bits // 2, 1 + weight_bits // 2  # bytes hold them
    height, width = (int(n) for n in rng.integers(4, 15, 2))
    inputs, outputs = (int(n) for n in rng.choice([3, 17, 24, 40, 64], 2))
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    node = conv(rng, weight_bits, (inputs, outputs))
    dense = target.layout_rules.dense_pixels and inputs < GROUP  # read by another family
    padding = Padding(*(int(n) for n in rng.integers(0, 2, 4)))
    stride = (1 + seed // 2 % 2,) * 2
    node = replace(node, window=Window((3, 3), stride, padding))
    graph = network_of(node, q, (height + 3, width + 3), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "winograd", seed) != dense


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(8))
def test_folded_images_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits, weight_bits = (int(n) for n in rng.integers(5, 9, 2))
    height, width = (int(n) for n in rng.integers(15, 30, 2))
    inputs, outputs = int(rng.integers(1, 5)), int(rng.choice([5, 24, 40]))
    if target.layout_rules.dense_pixels:
        inputs = GROUP  # fewer are read by another family
    node = conv(rng, weight_bits, (inputs, outputs), 7)
    padding = Padding(*(int(n) for n in rng.integers(0, 5, 4)))
    node = replace(node, window=Window((7, 7), (2, 2), padding))
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    graph = network_of(node, q, (height, width), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "winograd", seed)


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("bits", range(1, 9), ids="w{}".format)
def test_weights_transformed_late_equal_the_reference(
    target: Target, bits: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(bits)
    node = conv(rng, bits, (int(rng.choice([8, 20, 64])), int(rng.choice([24, 136]))))
    node = replace(node, window=Window((3, 3), (1 + bits % 2,) * 2, Padding(1, 1, 1, 1)))
    q = QParams.full(1.0, 2, 3)
    graph = network_of(node, q, (9, 7), batch=1 + bits % 2)
    assert check(graph, target, tmp_path, "winograd", bits, "transformed")


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("outputs", [256, 273, 520])
def test_parts_of_the_outputs_equal_the_reference(
    target: Target, outputs: int, tmp_path: Path
) -> None:
    node = conv(np.random.default_rng(outputs), 4, (8, outputs))
    graph = network_of(node, QParams.full(1.0, 3, 4), (5, 6), batch=1)
    assert check(graph, target, tmp_path, "winograd", 0)


@pytest.mark.parametrize("target", [p for p in here if p.id != "x86-64-v4-vnni"])
@pytest.mark.parametrize("seed", range(12))
def test_extra_steps_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = (int(n) for n in rng.choice([24, 50, 64, 130], 2))
    node = conv(rng, 6, (inputs, outputs))
    bell = rng.normal(0, 9, node.weight.codes.shape).round()  # a few exceed what int16 holds
    codes = np.clip(bell, -31, 31).astype(np.int8)
    node = replace(node, weight=replace(node.weight, codes=codes))
    q = QParams.full(1.0, int(rng.integers(0, 64)), 6)
    graph = network_of(node, q, (int(rng.integers(4, 15)), 11), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "winograd", seed, "extra")
