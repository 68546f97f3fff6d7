"""Matrices times vectors by shared additions."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.cpu.winograd.adder_graph import Arithmetic, additions, both_sides
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import F4, TRANSFORMS, Transform

Matrix = tuple[tuple[int, ...], ...]
matrices = st.integers(1, 5).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(-24, 24), min_size=columns, max_size=columns).filter(any),
        min_size=1,
        max_size=6,
    )
)


NUMBERS = Arithmetic(operator.add, operator.sub, list)


def one_by_one(matrix: Matrix) -> int:
    """Return the additions and doublings of every row by itself."""
    costs = [sum(c.bit_length() + c.bit_count() - 1 for c in map(abs, row) if c) for row in matrix]
    return sum(cost - 1 for cost in costs)


@given(matrices, st.integers(0, 99))
def test_rows_are_products_with_the_vector(rows: list[list[int]], seed: int) -> None:
    matrix = tuple(map(tuple, rows))
    vector = np.random.default_rng(seed).integers(-100, 100, len(matrix[0]))
    found: list[Any] = additions(matrix).of(list(vector), NUMBERS)
    assert found == (np.array(matrix) @ vector).tolist()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_sharing_takes_no_more_additions(transform: Transform) -> None:
    for matrix in (transform.input, transform.weight, transform.output):
        assert additions(matrix).count <= one_by_one(matrix)
        tile = np.random.default_rng(0).integers(-50, 50, (len(matrix[0]),) * 2)
        found = [*both_sides(matrix, tile.tolist(), NUMBERS)]
        assert found == (np.array(matrix) @ tile @ np.array(matrix).T).tolist()


def test_pairs_of_points_share_their_sums() -> None:
    assert one_by_one(F4.output) == 50
    assert additions(F4.output).count == 22
    assert additions(F4.scaled_up(16).output).count == 16
