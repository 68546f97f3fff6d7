"""Weights split where their pairs would saturate, steps in pairs, refusals, and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.direct_split import Split, split
from gmpq.backends.tvm.kernels.direct_tile import Shape, Tile, blocked
from gmpq.backends.tvm.layout import Layout
from gmpq.backends.tvm.plan import plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.single_layers import WITHOUT_VNNI, check, network_of, random_weight

here = [pytest.param(t, id=t.name) for t in (find("x86-64-v3"), WITHOUT_VNNI) if t.runs_here()]
TILE = Tile(1, 1, 2, blocks_outside=False)
INT16 = np.iinfo(np.int16)


def shape_of(inputs: int, outputs: int) -> Shape:
    x, y = Layout(1, inputs, 4, 4, inputs), Layout(1, outputs, 2, 2, outputs)
    return Shape(Window((3, 3)), x, y, inputs // 4, inputs, outputs, 8)


def lists(found: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weights and steps of each list: pairs and singles of one block after the other."""
    cuts = found.ends[1:-1]
    return list(zip(np.split(found.weights, cuts), np.split(found.steps, cuts), strict=True))


@given(high=st.integers(1, 255), size=st.integers(1, 128), seed=st.integers(0, 999))
def test_steps_add_up_to_the_layer_and_never_saturate(high: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(-size, size, (20, 8, 3, 3)).astype(np.int8)
    shape = shape_of(8, 20)
    found = split(codes, shape, TILE, high)
    whole = blocked(codes, shape, TILE).astype(int)
    total = np.zeros_like(whole).reshape(len(whole), -1, *whole.shape[-3:])
    for number, (weights, steps) in enumerate(lists(found)):
        np.add.at(total[number // 2], steps, weights)
        added = 1 if number % 2 else 2  # steps
        lanes = weights.astype(int).reshape(len(weights) // added, added, 32, 2)
        for bound, signed in ((INT16.max, lanes), (-int(INT16.min), -lanes)):
            assert high * np.maximum(signed, 0).sum(axis=(1, 3)).max(initial=0) <= bound
    np.testing.assert_array_equal(total.reshape(whole.shape), whole)


def test_steps_come_twice_only_where_a_pair_saturates() -> None:
    codes = np.full((16, 8, 3, 3), 64, np.int8)  # 255 * 128 = 32640
    alone = split(codes, shape_of(8, 16), TILE, 255)
    assert len(alone.steps) == 18
    assert alone.multiplied == 2
    codes[3, 5, 1, 2] = 65
    found = split(codes, shape_of(8, 16), TILE, 255)
    (twice,) = np.flatnonzero(np.bincount(found.steps) == 2)
    assert twice == (1 * 3 + 2) * 2 + 1
    assert np.abs(found.weights.astype(int)).sum() == np.abs(codes.astype(int)).sum()


def test_all_steps_of_small_weights_find_a_partner() -> None:
    codes = np.full((16, 8, 3, 3), 30, np.int8)
    found = split(codes, shape_of(8, 16), TILE, 255)
    assert found.ends.tolist() == [0, 18, 18]
    assert found.multiplied == 1.5


def test_few_bits_are_refused() -> None:
    rng = np.random.default_rng(0)
    weight = random_weight(rng, (16, 32, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3)))
    steps = plan(network_of(conv, QParams.full(1.0, 0, 4), (7, 9), 1), find("x86-64-v3")).steps
    assert "direct16 adds more than pairs" in steps[1].refusals["direct_split"]


def layer(rng: np.random.Generator, kind: int) -> tuple[Conv2d, QParams]:
    inputs, outputs = (int(n) for n in rng.choice([3, 8, 17, 40], 2))
    size, bits = int(rng.choice([1, 3])), int(rng.choice([7, 8]))
    weight = random_weight(rng, (outputs, inputs, size, size), bits)
    if bits == 8:
        bell = rng.normal(0, 36 if kind else 28, weight.codes.shape).round()
        weight.codes[:] = np.clip(bell, -128, 127)
    window = Window((size, size), (1 + kind % 2,) * 2, Padding(1, 0, 1, 1), (1, 1 + kind // 2))
    return Conv2d("conv", ("x",), "y", weight, window), QParams.full(1.0, kind, 8)


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(16))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    node, q = layer(rng, seed % 4)
    graph = network_of(node, q, (7, 9), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "direct_split", seed)
