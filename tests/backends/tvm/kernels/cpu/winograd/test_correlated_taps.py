"""Kernels whose taps are alike, as those of trained networks are: programs stay exact."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.winograd.proof import transformed
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import chosen
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import F2
from gmpq.backends.tvm.plan.plan import Choice, Verdict, plan
from gmpq.backends.tvm.target import Target
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.support.single_layers import check, network_of, random_weight
from tests.support.vnni import on_any_processor

INPUTS, OUTPUTS = 64, 96
FROM_MEMORY = re.compile(r"vnni \d+ x (\d) vectors, (\d+) overflow steps?(, in \d+ parts)?$")
SMOOTH = np.array([0.7, 1.0, 0.7])


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> Target:
    return on_any_processor(monkeypatch)


def smooth(rng: np.random.Generator) -> Array:
    """Return low frequencies with a little noise, [O, I, 3, 3]."""
    taps = np.outer(SMOOTH, SMOOTH) * rng.laplace(size=(OUTPUTS, INPUTS, 1, 1))
    return np.asarray(taps + rng.normal(0, 0.1, (OUTPUTS, INPUTS, 3, 3)))


def separable(rng: np.random.Generator) -> Array:
    """Return products of a column and a row, [O, I, 3, 3]."""
    columns, rows = rng.normal(size=(2, OUTPUTS, INPUTS, 3))
    return np.asarray(columns[..., :, None] * rows[..., None, :])


def scaled_copies(rng: np.random.Generator) -> Array:
    """Return one smooth kernel per input, scaled by output, [O, I, 3, 3]."""
    return np.asarray(smooth(rng)[:1] * rng.normal(size=(OUTPUTS, 1, 1, 1)))


def layer(taps: Array, bits: int) -> Conv2d:
    """Return the 3x3 convolution of real ``taps``, quantized by channel to ``bits``."""
    high = (1 << (bits - 1)) - 1
    codes = taps / np.abs(taps).max(axis=(1, 2, 3), keepdims=True) * high
    weight = random_weight(np.random.default_rng(0), taps.shape, bits)
    weight.codes[:] = codes.round()
    return Conv2d("conv", ("x",), "y", weight, Window((3, 3), (1, 1), Padding(1, 1, 1, 1)))


def expected_steps(node: Conv2d, vectors: int) -> int:
    """Return the steps whose weights exceed a byte, each as often as bytes must hold the rest."""
    whole = transformed(node.weight.codes, F2.scaled_down).astype(int)
    rest = whole - np.clip(whole, -128, 127)
    times = np.maximum(-(-rest // 127), -(rest // 128))  # of rest > 0, of rest < 0
    by_step = times.reshape(len(times), OUTPUTS // 16, 16, INPUTS // 4, 4).max(axis=(2, 4))
    return sum(int(by_step[:, group].max(axis=1).sum()) for group in chosen(OUTPUTS // 16, vectors))


@pytest.mark.parametrize("bits", [6, 7])
@pytest.mark.parametrize("kernels", [smooth, separable, scaled_copies])
def test_programs_of_correlated_taps_equal_the_reference(
    kernels: Callable[[np.random.Generator], Array], bits: int, vnni: Target, tmp_path: Path
) -> None:
    node = layer(kernels(np.random.default_rng(bits)), bits)
    graph = network_of(node, QParams.full(1.0, 5, 6), (9, 8), batch=1)
    for number, form in enumerate(("overflow step", ", 8-bit kernels transformed")):
        (folder := tmp_path / str(number)).mkdir()
        assert check(graph, vnni, folder, "winograd", 0, form)


@pytest.mark.parametrize("bits", [6, 7])
@pytest.mark.parametrize("kernels", [smooth, separable, scaled_copies])
def test_names_count_the_steps_that_correlated_taps_overflow(
    kernels: Callable[[np.random.Generator], Array], bits: int, vnni: Target
) -> None:
    node = layer(kernels(np.random.default_rng(bits)), bits)
    graph = network_of(node, QParams.full(1.0, 5, 6), (9, 8), batch=1)
    counted = [found for name in winograd_names(graph, vnni) if (found := FROM_MEMORY.search(name))]
    assert counted
    for found in counted:
        assert expected_steps(node, int(found[1])) == int(found[2])


def test_codes_of_eight_bits_have_no_overflow_steps(vnni: Target) -> None:
    node = layer(smooth(np.random.default_rng(6)), 6)
    graph = network_of(node, QParams.full(1.0, 5, 8), (9, 8), batch=1)
    assert not any("overflow" in name for name in winograd_names(graph, vnni))


def winograd_names(graph: IntGraph, target: Target) -> list[str]:
    """Return the configurations that are offered to the layer."""
    names: list[str] = []

    def choose(_site: object, choices: Sequence[Choice]) -> Verdict:
        names.extend(c.configuration for family, c in choices if family.name == "winograd")
        return Verdict(choices[0])

    plan(graph, target, choose)
    return names
