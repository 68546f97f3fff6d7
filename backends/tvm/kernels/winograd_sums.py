"""The sums on both sides of a Winograd product, as expressions on vectors."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.winograd_algebra import Transform
from gmpq.backends.tvm.script import Expr, put, registers, splat

WORD = 1 << 32
ONE = 1  # index of the point 1 in the transforms' lists of points


def both_sides(
    matrix: Sequence[Sequence[int]], tile: list[list[Expr]], dtype: str
) -> list[tuple[int, int, Expr]]:
    """Return row, column and value of ``matrix * tile * matrix^T``."""
    columns = range(len(tile[0]))
    once = []
    for row in matrix:
        slots = registers(len(tile[0]), dtype)
        for j in columns:
            put(slots[j], _weighted(row, [tile[k][j] for k in range(len(tile))]))
        once.append([slot[0] for slot in slots])
    return [
        (i, j, _weighted(row, once[i]))
        for i, j, row in ((i, j, matrix[j]) for i in range(len(matrix)) for j in range(len(matrix)))
    ]


def _weighted(coefficients: Sequence[int], terms: Sequence[Expr]) -> Expr:
    """Return the sum of ``terms`` times small whole numbers, by additions; positive ones first."""
    pairs = [(c, term) for c, term in zip(coefficients, terms, strict=True) if c]
    pairs.sort(key=lambda pair: pair[0] < 0)
    total = None
    for c, term in pairs:
        scaled = _times(abs(c), term)
        if total is None:
            total = scaled if c > 0 else scaled - scaled - scaled
        else:
            total = total + scaled if c > 0 else total - scaled
    assert total is not None
    return total


def _times(count: int, term: Expr) -> Expr:
    """Return ``count * term`` by doubling; bytes have no multiplication."""
    if count == 1:
        return term
    half = _times(count // 2, term)
    return half + half + term if count % 2 else half + half


def additions(matrix: Sequence[Sequence[int]], columns: int) -> int:
    """Return the additions and doublings of both sides of a transform."""
    costs = [sum(c.bit_length() + c.bit_count() - 1 for c in map(abs, row) if c) for row in matrix]
    return sum(cost - 1 for cost in costs) * (columns + len(matrix))


def odd_part(transform: Transform) -> int:
    """Return the scale without its power of two."""
    return transform.scale // (transform.scale & -transform.scale)


def share_of_bias(transform: Transform) -> int:
    """Return what the position of the point 1 needs per step of bias."""
    coefficient = transform.output[0][ONE]  # of every output, along rows and along columns
    return transform.scale // (coefficient * coefficient)


def divided(value: Expr, transform: Transform, lanes: int) -> Expr:
    """Return ``value`` over the scale, which divides it: the inverse modulo 2**32, then a shift.

    A scale that is a power of two is left to the factor.
    """
    odd = odd_part(transform)
    if odd == 1:
        return value
    shift = (transform.scale // odd).bit_length() - 1
    inverse = (pow(odd, -1, WORD) + WORD // 2) % WORD - WORD // 2
    return T.shift_right(value * splat(T.int32(inverse), lanes), splat(T.int32(shift), lanes))
