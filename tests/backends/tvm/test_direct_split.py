"""Weights split where their pairs would saturate: the two summands, refusals, and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.direct_split import ORDERS, split
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, blocked
from gmpq.backends.tvm.layout import Layout
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.single_layers import WITHOUT_VNNI, check, network_of, random_weight

here = [pytest.param(t, id=t.name) for t in (find("x86-64-v3"), WITHOUT_VNNI) if t.runs_here()]
TILE = Tile(1, 1, 2, blocks_outside=False)
INT16 = np.iinfo(np.int16)


def shape_of(inputs: int, outputs: int) -> Shape:
    x, y = Layout(1, inputs, 4, 4, inputs), Layout(1, outputs, 2, 2, outputs)
    return Shape(Window((3, 3)), x, y, inputs // 4, inputs, outputs, 8)


@given(high=st.integers(1, 255), seed=st.integers(0, 999))
def test_both_summands_add_up_and_never_saturate(high: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (16, 8, 3, 3)).astype(np.int8)
    shape = shape_of(8, 16)
    found = split(codes, shape, TILE, high)
    total = found.first.astype(int)
    total[found.steps] += found.rest
    whole = blocked(codes, shape, TILE)
    for place in np.ndindex(found.orders.shape):
        order = list(ORDERS[found.orders[place]])
        np.testing.assert_array_equal(whole[place][..., order], total[place])
    for part in (found.first, found.rest):
        pairs = high * part.astype(int).reshape(-1, 2)
        assert np.maximum(pairs, 0).sum(axis=1).max(initial=0) <= INT16.max
        assert np.minimum(pairs, 0).sum(axis=1).min(initial=0) >= INT16.min


def test_steps_are_repeated_only_where_a_pair_saturates() -> None:
    codes = np.full((16, 8, 3, 3), 64, np.int8)  # 255 * 128 = 32640
    assert split(codes, shape_of(8, 16), TILE, 255).repeated == 0
    codes[3, 5, 1, 2] = 65
    found = split(codes, shape_of(8, 16), TILE, 255)
    assert np.argwhere(found.steps).tolist() == [[0, 1, 2, 1]]
    assert found.rest.sum() == 1


def test_an_order_whose_pairs_fit_needs_no_repetition() -> None:
    codes = np.zeros((16, 8, 3, 3), np.int8)
    codes[0, 4:6] = 100  # saturates as a pair
    found = split(codes, shape_of(8, 16), TILE, 255)
    assert found.repeated == 0
    assert (found.orders[..., 1] > 0).all()
    assert (found.orders[..., 0] == 0).all()


def layer(rng: np.random.Generator, kind: int) -> tuple[Conv2d, QParams]:
    inputs, outputs = (int(n) for n in rng.choice([3, 8, 17, 40], 2))
    size = int(rng.choice([1, 3]))
    weight = random_weight(rng, (outputs, inputs, size, size), 8)
    bell = np.clip(rng.normal(0, 36 if kind else 28, weight.codes.shape).round(), -128, 127)
    weight.codes[:] = bell
    window = Window((size, size), (1 + kind % 2,) * 2, Padding(1, 0, 1, 1), (1, 1 + kind // 2))
    return Conv2d("conv", ("x",), "y", weight, window), QParams.full(1.0, kind, 8)


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(16))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    node, q = layer(rng, seed % 4)
    graph = network_of(node, q, (7, 9), batch=1 + seed % 2)
    if not check(graph, target, tmp_path, "direct_split", seed):
        assert seed % 4 != 0  # these weights have few large ones
