"""A matrix of small whole numbers times a vector, by additions alone, few of them.

With coefficients in binary a row is a sum of terms +-(value << shift). A pair of terms that several
rows have, up to a sign and a shift of both, becomes a separate value, the most frequent pair
first (Potkonjak, Srivastava and Chandrakasan, "Multiple Constant Multiplications", 1996). What is
left of a row is added from the highest shift down, doubling on the way.

Nothing multiplies, so that it works on bytes, which have no multiplication; sums on the way may
wrap, if the result fits.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import TypeAlias

from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, in_registers

Matrix: TypeAlias = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How values are added and subtracted, and how those that are read twice are kept."""

    add: Callable[[Expr, Expr], Expr]
    subtract: Callable[[Expr, Expr], Expr]
    keep: Callable[[list[Expr]], list[Expr]]


WRAPPING = Arithmetic(operator.add, operator.sub, in_registers)


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """``sign * (value << shift)``."""

    shift: int
    value: int
    sign: int


Row: TypeAlias = tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Additions:
    """Rows over the elements of a vector and, numbered after them, over what rows share."""

    columns: int
    shared: tuple[Row, ...]
    rows: tuple[Row, ...]

    @property
    def count(self) -> int:
        """Additions, subtractions and doublings."""
        return sum(map(_count, self.shared + self.rows))

    def of(self, elements: Sequence[Expr], arithmetic: Arithmetic = WRAPPING) -> list[Expr]:
        """Return the matrix times ``elements``."""
        assert len(elements) == self.columns
        values = list(elements)
        for row in self.shared:
            values += arithmetic.keep([_total(row, values, arithmetic)])
        return [_total(row, values, arithmetic) for row in self.rows]


@lru_cache
def additions(matrix: tuple[tuple[int, ...], ...]) -> Additions:
    """Return how to multiply by ``matrix``."""
    columns, rows = len(matrix[0]), [_terms(row) for row in matrix]
    shared: list[Row] = []
    while pair := _most_frequent(rows):
        new = columns + len(shared)
        shared.append(pair)
        rows = [_replaced(row, pair, new) for row in rows]
    return Additions(columns, tuple(shared), tuple(rows))


def both_sides(
    matrix: tuple[tuple[int, ...], ...],
    tile: list[list[Expr]],
    arithmetic: Arithmetic = WRAPPING,
) -> Iterator[list[Expr]]:
    """Yield the rows of ``matrix * tile * matrix^T``."""
    sums = additions(matrix)
    columns = [arithmetic.keep(sums.of(column, arithmetic)) for column in zip(*tile, strict=True)]
    return (sums.of(row, arithmetic) for row in zip(*columns, strict=True))


def both_counts(matrix: tuple[tuple[int, ...], ...]) -> int:
    """Return the additions, subtractions and doublings of both sides."""
    return additions(matrix).count * (len(matrix[0]) + len(matrix))


def _terms(row: Sequence[int]) -> Row:
    return tuple(
        Term(shift, value, 1 if c > 0 else -1)
        for value, c in enumerate(row)
        for shift in range(abs(c).bit_length())
        if abs(c) >> shift & 1
    )


def _pair(a: Term, b: Term) -> Row:
    """Return two terms without the shift and the sign that they have in common."""
    first, second = sorted((a, b))
    return (
        Term(0, first.value, 1),
        Term(second.shift - first.shift, second.value, first.sign * second.sign),
    )


def _most_frequent(rows: list[Row]) -> Row | None:
    """Return the pair that most rows have, or None; of several the least shifted one."""
    found = Counter(pair for row in rows for pair in {_pair(*two) for two in combinations(row, 2)})
    shared = sorted(pair for pair, count in found.items() if count > 1)
    return max(shared, key=lambda pair: (found[pair], -pair[1].shift), default=None)


def _replaced(row: Row, pair: Row, new: int) -> Row:
    """Return ``row`` with value ``new`` wherever it has ``pair``."""
    for a, b in combinations(row, 2):
        if _pair(a, b) == pair:
            rest = tuple(term for term in row if term not in (a, b))
            return _replaced((*rest, replace(min(a, b), value=new)), pair, new)
    return row


def _count(row: Row) -> int:
    steps = [len(row) - 1, max((term.shift for term in row), default=0)]
    return sum(steps) + all(term.sign < 0 for term in row)


def _total(row: Row, values: Sequence[Expr], arithmetic: Arithmetic) -> Expr:
    """Return the sum of a row's terms, the most shifted and the positive ones first."""
    add, subtract = arithmetic.add, arithmetic.subtract
    first, *rest = sorted(row, key=lambda term: (-term.shift, -term.sign))
    total, shift, negative = values[first.value], first.shift, first.sign < 0
    for term in rest:
        total, shift = _doubled(total, shift - term.shift, add), term.shift
        value = values[term.value]
        if negative and term.sign > 0:
            total, negative = subtract(value, total), False
        else:
            both = add if negative or term.sign > 0 else subtract
            total = both(total, value)
    total = _doubled(total, shift, add)
    return subtract(subtract(total, total), total) if negative else total


def _doubled(value: Expr, times: int, add: Callable[[Expr, Expr], Expr]) -> Expr:
    for _ in range(times):
        value = add(value, value)
    return value
