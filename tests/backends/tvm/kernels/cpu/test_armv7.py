"""Kernels of NEON on 32-bit ARM, emulated, equal the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram, missing
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import (
    check,
    network_of,
    random_convolution,
    random_linear,
    random_weight,
)
from tests.support.strategies import random_graph, random_input

ARMV7 = find("armv7")
WITHOUT_DIVISION = find("arm-linux-gnueabihf,cortex-a9")
REASON = missing(ARMV7)
pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
BITS = ((8, 8), (7, 5), (5, 3), (4, 4), (3, 1), (2, 2), (1, 1), (1, 8))  # of codes and weights
WINDOW = Window((3, 3), padding=Padding(1, 1, 1, 1))


@pytest.mark.parametrize("family", ["direct", "direct_neon"])
@pytest.mark.parametrize("seed", range(len(BITS)))
def test_direct(seed: int, family: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    layer = random_linear if seed % 4 == 3 else random_convolution
    check(layer(rng, BITS[seed]), ARMV7, tmp_path, family, seed)


@pytest.mark.parametrize("bits", BITS)
def test_depthwise(bits: tuple[int, int], tmp_path: Path) -> None:
    seed = sum(bits)
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([3, 16, 24, 40]))
    weight = random_weight(rng, (channels, 1, 3, 3), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, WINDOW, channels)
    graph = network_of(node, QParams.full(1.0, 1, bits[0]), (10, 11), 1)
    assert check(graph, ARMV7, tmp_path, "depthwise_neon", seed)


@pytest.mark.parametrize("bits", [(5, 5), (4, 4), (3, 2), (1, 1)])
def test_winograd(bits: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(sum(bits))
    weight = random_weight(rng, (24, 40, 3, 3), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, WINDOW)
    graph = network_of(node, QParams.full(1.0, 1, bits[0]), (9, 12), 1)
    assert check(graph, ARMV7, tmp_path, "winograd", sum(bits))


@pytest.mark.parametrize("bits", [(8, 8), (7, 6), (8, 2)])
@pytest.mark.parametrize("form", ["F(2x2), ", "F(4x4), "])
def test_winograd_in_words(form: str, bits: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(sum(bits))
    weight = random_weight(rng, (13, 7, 3, 3), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, WINDOW)
    graph = network_of(node, QParams.full(1.0, 3, bits[0]), (9, 11), 1)
    assert check(graph, ARMV7, tmp_path, "winograd", sum(bits), form)


@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (4, 1), (2, 3), (3, 3)])
def test_bitserial(bits: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(sum(bits))
    weight = random_weight(rng, (23, 70, 3, 3), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, WINDOW)
    graph = network_of(node, QParams.full(1.0, 1, bits[0]), (6, 7), 1)
    assert check(graph, ARMV7, tmp_path, "bitserial", sum(bits))


@pytest.mark.parametrize("seed", range(3))
def test_processors_that_do_not_divide(seed: int, tmp_path: Path) -> None:
    graph = random_graph(seed, exact=True)
    description = build(graph, WITHOUT_DIVISION, tmp_path).program
    program = EmulatedProgram(tmp_path, description, WITHOUT_DIVISION)
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    for name, found in program.trace(inputs).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
