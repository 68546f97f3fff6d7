"""Overflow steps of vpdpbusd: they hold what bytes leave, and programs with them are exact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.cpu.winograd.proof import transformed
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import chosen
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import F2
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import saturated_weights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_vnni_overflow import (
    count,
    kept,
    overflow_table,
    repeats,
)
from gmpq.backends.tvm.plan.plan import Choice, Verdict, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import check, network_of, random_weight
from tests.support.vnni import on_any_processor

DOWN = F2.scaled_down


@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 20)),
    vectors=st.integers(1, 4),
    spread=st.sampled_from([20, 100, 300, 1000]),
)
def test_bytes_and_overflow_steps_add_up(
    seed: int, shape: tuple[int, int, int], vectors: int, spread: int
) -> None:
    rng = np.random.default_rng(seed)
    positions, outputs, inputs = shape
    weights = rng.normal(0, spread, shape).round().astype(np.int16)
    depth, all_vectors = -(-inputs // 4), -(-outputs // 16)
    vectors = min(vectors, all_vectors)
    rest = weights - kept(weights)
    found = count(repeats(rest, depth, all_vectors), vectors)
    table = overflow_table(rest, depth, all_vectors, vectors)
    assert table.shape == (found.table_size(vectors),)
    groups = chosen(all_vectors, vectors)
    padded = np.zeros((positions, all_vectors * 16, depth * 4), np.int64)
    padded[:, :outputs, :inputs] = rest
    left = padded.reshape(positions, all_vectors, 16, depth, 4)
    flat = table[found.weights_at :].view(np.int8).reshape(-1, vectors, 16, 4)
    for group, members in enumerate(groups):
        for position in range(positions):
            first, end = table[group * positions + position :][:2]
            total = np.zeros((vectors, 16, depth, 4), np.int64)
            for n in range(first, end):
                total[:, :, table[found.steps_at + n]] += flat[n]
            np.testing.assert_array_equal(total, left[position, members])


@given(seed=st.integers(0, 999), bits=st.integers(2, 8), alike=st.booleans())
def test_saturating_additions_change_only_what_exceeds_a_byte(
    seed: int, bits: int, alike: bool
) -> None:
    rng, high = np.random.default_rng(seed), (1 << (bits - 1)) - 1
    codes = rng.integers(-high - 1, high + 1, (5, 6, 3, 3)).astype(np.int8)
    if alike:  # as in trained kernels, where the nine taps add up
        codes[:] = codes[:, :, :1, :1]
    whole, found = transformed(codes, DOWN), saturated_weights(DOWN, codes)
    assert found.dtype == np.int8
    small = np.abs(codes.astype(int)).sum(axis=(2, 3)) <= 127  # no sum on the way exceeds a byte
    np.testing.assert_array_equal(found[:, small], whole[:, small])
    if bits <= 5:  # only the last sum can
        np.testing.assert_array_equal(found, np.clip(whole, -128, 127))


def layer(
    rng: np.random.Generator, channels: tuple[int, int], bits: int, stride: int = 1
) -> Conv2d:
    """Return a 3x3 convolution; sums of the equal taps of its first two channels exceed bytes."""
    inputs, outputs = channels
    weight = random_weight(rng, (outputs, inputs, 3, 3), bits)
    weight.codes[:] = np.clip(weight.codes, -14, 14)
    weight.codes[::2, :2] = (1 << (bits - 1)) - 1
    weight.codes[1::3, 1] = -(1 << (bits - 1))
    window = Window((3, 3), (stride, stride), Padding(*(int(n) for n in rng.integers(0, 2, 4))))
    return Conv2d("conv", ("x",), "y", weight, window)


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> Target:
    return on_any_processor(monkeypatch)


@pytest.mark.parametrize("form", ["overflow steps", "overflow steps, 8-bit kernels transformed"])
@pytest.mark.parametrize("seed", range(10))
def test_programs_equal_the_reference(seed: int, form: str, vnni: Target, tmp_path: Path) -> None:
    rng, bits = np.random.default_rng(seed), 6 + seed % 3
    channels = (130 if bits == 8 else int(rng.choice([37, 64])), int(rng.choice([24, 70])))
    node = layer(rng, channels, bits, stride=1 + seed % 2)
    input_bits = int(rng.integers(1, 7))
    q = QParams.full(1.0, int(rng.integers(0, 1 << input_bits)), input_bits)
    graph = network_of(node, q, (int(rng.integers(7, 12)), 9), batch=1 + seed % 2)
    assert check(graph, vnni, tmp_path, "winograd", seed, form)


def test_few_overflow_steps_are_offered(vnni: Target, tmp_path: Path) -> None:
    node = layer(np.random.default_rng(0), (64, 64), 6)
    node.weight.codes[:] = np.clip(node.weight.codes, -14, 14)
    node.weight.codes[5, 7] = 31  # nine of them are 279
    graph = network_of(node, QParams.full(1.0, 3, 4), (8, 8), batch=1)
    assert check(graph, vnni, tmp_path, "winograd", 0, "2 overflow steps")


def test_many_overflow_steps_are_not(vnni: Target, tmp_path: Path) -> None:
    node = layer(np.random.default_rng(0), (16, 32), 8)
    node.weight.codes[:] = 127
    graph = network_of(node, QParams.full(1.0, 0, 4), (8, 8), batch=1)
    assert not check(graph, vnni, tmp_path, "winograd", 0, "overflow")


def test_sapphire_rapids_splits_on_amx_and_overflows_on_vnni() -> None:
    node = layer(np.random.default_rng(0), (64, 64), 6)
    node.weight.codes[:] = np.clip(node.weight.codes, -14, 14)
    node.weight.codes[5, 7] = 24  # nine of them are 216, which two bytes hold
    graph = network_of(node, QParams.full(1.0, 0, 4), (8, 8), batch=1)
    names = []

    def choose(_site: object, choices: Sequence[Choice]) -> Verdict:
        names.extend(c.configuration for family, c in choices if family.name == "winograd")
        return Verdict(choices[0])

    plan(graph, find("x86_64-linux-gnu,sapphirerapids"), choose)
    assert any(" amx " in name for name in names)
    assert any("overflow step" in name for name in names)
    assert all(" amx " in name or "overflow step" in name for name in names)
