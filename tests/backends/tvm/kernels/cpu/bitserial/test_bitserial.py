"""Bit-serial convolution: planes of weights, what it refuses, and its programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.base import Site, Tensor
from gmpq.backends.tvm.kernels.cpu.bitserial import bitserial
from gmpq.backends.tvm.kernels.cpu.bitserial.planes import PlaneForm, packed_words, planes_of
from gmpq.backends.tvm.kernels.cpu.bitserial.x86_popcount import LaneCounter
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import Steps
from gmpq.backends.tvm.kernels.layout import layouts
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import GROUP, RULES, CpuTarget
from gmpq.ir import Conv2d, IntGraph, Linear, Node, Padding, QParams, Window
from tests.support.single_layers import (
    V3,
    check,
    network_of,
    random_convolution,
    random_linear,
    random_weight,
)

VNNI = find("x86-64-v4-vnni")
NEON = find("rpi4")
COUNTING = replace(
    VNNI,
    name="counting",
    attributes=(*VNNI.attributes, "+avx512vpopcntdq"),
    features=VNNI.features | {"avx512vpopcntdq"},
)

CASES = [
    pytest.param([-1, 1, 1], PlaneForm(True, False, (1,)), id="binary"),
    pytest.param([-1, 0, 1], PlaneForm(True, True, (1,)), id="ternary"),
    pytest.param([0, 1], PlaneForm(False, True, (1,)), id="no-minus"),
    pytest.param([0, 0], PlaneForm(False, True, (1,)), id="zero"),
    pytest.param([-3, 2], PlaneForm(True, True, (1, 2)), id="three-bits"),
    pytest.param([-2, 2], PlaneForm(True, True, (2,)), id="one-digit"),
    pytest.param(
        [-128, 127], PlaneForm(True, True, (1, 2, 4, 8, 16, 32, 64, 128)), id="eight-bits"
    ),
    pytest.param([3, 2], PlaneForm(False, True, (1, 2)), id="positive"),
]


@pytest.mark.parametrize(("codes", "form"), CASES)
def test_planes_say_what_the_weights_are(codes: list[int], form: PlaneForm) -> None:
    planes = planes_of(np.array(codes, np.int8))
    assert planes.form == form
    assert len(planes.bits) == form.stored
    np.testing.assert_array_equal(planes.sum, codes)


def test_words_begin_with_the_lowest_bit() -> None:
    bits = np.zeros(34, bool)
    bits[[0, 33]] = True
    assert packed_words(bits).tolist() == [1, 2]


def here(target: Target) -> Target:
    """Return ``target``, or skip the test."""
    if not target.runs_here():
        pytest.skip(f"{target.name} does not run here")
    return target


def readable(node: Node) -> bool:
    """Return whether a convolution has one group, and pixels of at least four channels."""
    return isinstance(node, Conv2d) and node.groups == 1 and node.weight.codes.shape[1] >= GROUP


@pytest.mark.parametrize("bits", [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 3), (1, 4)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_counting_equals_the_reference(seed: int, bits: tuple[int, int], tmp_path: Path) -> None:
    graph = random_convolution(np.random.default_rng([seed, *bits]), bits)
    while not readable(graph.nodes[1]):
        seed += 100
        graph = random_convolution(np.random.default_rng([seed, *bits]), bits)
    assert check(graph, here(COUNTING), tmp_path, "bitserial", seed)


def site_of(graph: IntGraph, target: Target) -> Site[CpuTarget]:
    """Return the convolution's site."""
    placed = layouts(graph, RULES)
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
    assert bitserial.refuses(site_of(one_by_one(3, 3), NEON)) is None
    reason = bitserial.refuses(site_of(one_by_one(2, 2), VNNI))
    assert reason == "needs AVX-512 VPOPCNTDQ or NEON"
    reason = bitserial.refuses(site_of(one_by_one(3, 3), COUNTING))
    assert reason == "has 6 pairs of bit planes: pays up to 4"
    reason = bitserial.refuses(site_of(one_by_one(4, 3), NEON))
    assert reason == "has 9 pairs of bit planes: pays up to 6"


def test_groups_are_refused() -> None:
    weight = random_weight(np.random.default_rng(0), (16, 8, 1, 1), 2)
    node = Conv2d("conv", ("x",), "y", weight, Window((1, 1)), groups=2)
    graph = network_of(node, QParams.full(1.0, 0, 2), (4, 4), 1)
    assert bitserial.refuses(site_of(graph, NEON)) == "needs one group"


def test_digits_whose_sums_do_not_fit_16_bits_are_refused() -> None:
    graph = one_by_one(8, 3)
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    node.weight.codes[:] = 1
    node.weight.codes[0, 0] = -64
    reason = bitserial.refuses(site_of(graph, NEON))
    assert reason == "has digits of weights too far apart: (1, 64)"


def test_sums_beyond_int32_are_refused() -> None:
    graph = one_by_one(2, 2)
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    node.weight.codes[:] = 1
    node.weight.bias[:] = (1 << 31) - 10
    reason = bitserial.refuses(site_of(graph, COUNTING))
    assert reason == f"may sum up to {(1 << 31) - 10 + 16 * 3}, beyond int32"


@pytest.mark.parametrize(
    ("channels", "kernel", "bits", "run"),
    [
        pytest.param(992, 1, (2, 2), Steps(1, 1, 31), id="31-times-8-fits-a-byte"),
        pytest.param(1024, 1, (2, 2), Steps(1, 1, 16), id="32-times-8-does-not"),
        pytest.param(128, 3, (2, 2), Steps(1, 3, 4), id="a-row-of-taps"),
        pytest.param(480, 1, (3, 3), Steps(1, 1, 15), id="two-pairs-of-one-magnitude"),
        pytest.param(512, 1, (3, 3), Steps(1, 1, 8), id="two-pairs-of-one-magnitude-twice"),
    ],
)
def test_a_run_ends_where_bytes_are_full(
    channels: int, kernel: int, bits: tuple[int, int], run: Steps
) -> None:
    weight = random_weight(np.random.default_rng(0), (4, channels, kernel, kernel), bits[0])
    weight.codes.flat[:2] = -3, 3
    weight.codes[:] = np.clip(weight.codes, 1 - (1 << bits[0] - 1), (1 << bits[0] - 1) - 1)
    node = Conv2d("conv", ("x",), "y", weight, Window((kernel, kernel)))
    graph = network_of(node, QParams.full(1.0, 0, bits[1]), (4, 4), 1)
    site = site_of(graph, NEON)
    assert bitserial.shape_of(site, planes_of(weight.codes).form).run == run


@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (2, 4), (1, 4), (3, 2)], ids=str)
def test_the_loops_are_right_without_the_instruction(
    bits: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLVM makes vpopcntd of AVX2 where the processor has none: slow, and the same."""
    monkeypatch.setattr(bitserial, "counter_of", lambda _: LaneCounter())
    weight = random_weight(np.random.default_rng(sum(bits)), (17, 70, 3, 2), bits[0])
    window = Window((3, 2), (2, 1), Padding(1, 0, 2, 1))
    node = Conv2d("conv", ("x",), "y", weight, window)
    graph = network_of(node, QParams.full(1.0, 1, bits[1]), (7, 6), 2)
    assert check(graph, here(V3), tmp_path, "bitserial", sum(bits))


def test_a_zero_point_beyond_the_codes_has_its_planes() -> None:
    """Padding holds it."""
    graph = one_by_one(1, 1, zero_point=3)
    node = graph.nodes[1]
    assert isinstance(node, Conv2d | Linear)
    shape = bitserial.shape_of(site_of(graph, COUNTING), planes_of(node.weight.codes).form)
    assert shape.planes == 2


@pytest.mark.parametrize("seed", range(4))
def test_fully_connected_layers_equal_the_reference(seed: int, tmp_path: Path) -> None:
    graph = random_linear(np.random.default_rng(seed), (2, 1 + seed % 2))
    assert check(graph, here(COUNTING), tmp_path, "bitserial", seed)
