"""Bit-serial convolution: planes of weights, what it refuses, and its programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels import bitserial
from gmpq.backends.tvm.kernels.base import Site, Tensor
from gmpq.backends.tvm.kernels.bitserial_planes import planes_of, words
from gmpq.backends.tvm.layout import layouts
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, IntGraph, Linear, QParams, Window
from tests.single_layers import check, network_of, random_convolution, random_linear, random_weight

VNNI = find("x86-64-v4-vnni")
COUNTING = replace(
    VNNI,
    name="counting",
    attributes=(*VNNI.attributes, "+avx512vpopcntdq"),
    features=VNNI.features | {"avx512vpopcntdq"},
)

CASES = [
    pytest.param([-1, 1, 1], -1, (2,), id="binary"),
    pytest.param([-1, 0, 1], 0, (1, -1), id="ternary"),
    pytest.param([0, 1], 0, (1,), id="no-minus"),
    pytest.param([0, 0], 0, (1,), id="zero"),
    pytest.param([-3, 2], 0, (1, 2, -4), id="three-bits"),
    pytest.param([-2, 1], 0, (1, -2), id="lowest-of-two-bits"),
    pytest.param([-128, 127], 0, (1, 2, 4, 8, 16, 32, 64, -128), id="eight-bits"),
    pytest.param([3, 2], 0, (1, 2), id="positive"),
]


@pytest.mark.parametrize(("codes", "offset", "factors"), CASES)
def test_planes_sum_to_the_weights(codes: list[int], offset: int, factors: tuple[int, ...]) -> None:
    planes = planes_of(np.array(codes, np.int8))
    assert (planes.offset, planes.factors) == (offset, factors)
    np.testing.assert_array_equal(planes.sum, codes)


def test_words_begin_with_the_lowest_bit() -> None:
    bits = np.zeros(34, bool)
    bits[[0, 33]] = True
    assert words(bits).tolist() == [1, 2]


def here(target: Target) -> Target:
    """Return ``target``, or skip the test."""
    if not target.runs_here():
        pytest.skip(f"{target.name} does not run here")
    return target


@pytest.mark.parametrize("bits", [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 3), (1, 4)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_counting_equals_the_reference(seed: int, bits: tuple[int, int], tmp_path: Path) -> None:
    graph = random_convolution(np.random.default_rng([seed, *bits]), bits)
    while isinstance(graph.nodes[1], Conv2d) and graph.nodes[1].groups > 1:
        seed += 100
        graph = random_convolution(np.random.default_rng([seed, *bits]), bits)
    assert check(graph, here(COUNTING), tmp_path, "bitserial", seed)


def site_of(graph: IntGraph, target: Target) -> Site:
    """Return the convolution's site."""
    placed = layouts(graph)
    x, y = (Tensor(graph.values[name], placed[name]) for name in ("x", "y"))
    return Site(graph.nodes[1], (x,), y, target)


def one_by_one(weight_bits: int, input_bits: int, zero_point: int = 0) -> IntGraph:
    """Return a convolution whose weights take both ends of their range."""
    weight = random_weight(np.random.default_rng(0), (16, 16, 1, 1), weight_bits)
    weight.codes[0, :2, 0, 0] = (-1, 1) if weight_bits == 1 else (1 - (1 << weight_bits - 1), 0)
    q = QParams(1.0, zero_point, input_bits, 0, (1 << input_bits) - 1)
    return network_of(Conv2d("conv", ("x",), "y", weight, Window((1, 1))), q, (4, 4), 1)


def test_refusals_tell_the_reason() -> None:
    assert bitserial.refuses(site_of(one_by_one(2, 2), COUNTING)) is None
    reason = bitserial.refuses(site_of(one_by_one(2, 2), find("x86-64-v4-vnni")))
    assert reason == "needs AVX-512 VPOPCNTDQ"
    reason = bitserial.refuses(site_of(one_by_one(2, 3), COUNTING))
    assert reason == "has 6 pairs of bit planes: pays up to 4"


def test_sums_beyond_int32_are_refused() -> None:
    graph = one_by_one(2, 2)
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    node.weight.bias[:] = (1 << 31) - 10
    reason = bitserial.refuses(site_of(graph, COUNTING))
    assert reason == "may sum up to 2147483734, beyond int32"


def test_a_zero_point_beyond_the_codes_has_its_planes() -> None:
    """Padding holds it."""
    graph = one_by_one(1, 1, zero_point=3)
    node = graph.nodes[1]
    assert isinstance(node, Conv2d | Linear)
    shape = bitserial.shape_of(site_of(graph, COUNTING), planes_of(node.weight.codes))
    assert shape.planes == 2


@pytest.mark.parametrize("seed", range(4))
def test_fully_connected_layers_equal_the_reference(seed: int, tmp_path: Path) -> None:
    graph = random_linear(np.random.default_rng(seed), (2, 1 + seed % 2))
    assert check(graph, here(COUNTING), tmp_path, "bitserial", seed)
