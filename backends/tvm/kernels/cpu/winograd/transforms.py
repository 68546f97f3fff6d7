"""Exact integer Winograd convolution: the algebra.

For a kernel g of k x k, a stride s and a tile d of input codes, with integer matrices B, G and A,

    scale * (d convolved with g)  =  A^T [ (G g G^T) * (B^T d B) ] A

where * is element by element (Winograd 1980; Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2015). Nothing rounds: G and A are multiplied by whole numbers until they are
whole, and ``scale`` is what that multiplies the result by.

Stride 2 has two ways. Along one axis the even and the odd taps are two convolutions of stride 1,
over the even and the odd codes, whose results add up. ``_interleaved`` joins the matrices of both:
3 taps are 2 even ones and an odd one, and 2 outputs cost 5 products in place of 6. Or the four
combinations of even and odd rows and columns become channels, four times as many, of an image of
half the size (``space_to_depth``): a kernel of 7x7 then is one of 4x4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import TypeAlias

Matrix: TypeAlias = tuple[tuple[int, ...], ...]

WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Transform:
    """Integer matrices of F(m x m, k x k), and what they multiply the result by."""

    input: Matrix  # B^T, [points, reach]
    weight: Matrix  # G, [points, k]
    output: Matrix  # A^T, [m, points]
    scale: int
    stride: int = 1

    @property
    def size(self) -> int:
        """Rows and columns of outputs that one tile computes: m."""
        return len(self.output)

    @property
    def kernel(self) -> int:
        """Rows and columns of the kernel: k."""
        return len(self.weight[0])

    @property
    def reach(self) -> int:
        """Rows and columns of inputs that one tile reads: (m - 1) * stride + k."""
        return len(self.input[0])

    @property
    def points(self) -> int:
        """Products along one axis."""
        return len(self.input)

    @property
    def positions(self) -> int:
        """Products per input channel of one tile."""
        return self.points * self.points

    @property
    def power_of_two(self) -> int:
        """The largest power of two that divides the scale."""
        return self.scale & -self.scale

    @property
    def inverse(self) -> int:
        """The inverse of the scale's odd part modulo 2**32, as int32."""
        odd = self.scale // self.power_of_two
        return (pow(odd, -1, WORD) + WORD // 2) % WORD - WORD // 2

    def scaled_up(self, limit: int) -> Transform:
        """Return the transform with common factors of A's columns in G's rows.

        The absolute values of a row of G then add up to at most ``limit``, if they did before.
        """
        factors = []
        for row, column in zip(self.weight, zip(*self.output, strict=True), strict=True):
            common, size = gcd(*column), sum(map(abs, row))
            divisors = (n for n in range(common, 1, -1) if common % n == 0 and n * size <= limit)
            factors.append(next(divisors, 1))
        weight = (tuple(f * g for g in row) for f, row in zip(factors, self.weight, strict=True))
        output = (tuple(a // f for f, a in zip(factors, row, strict=True)) for row in self.output)
        return replace(self, weight=tuple(weight), output=tuple(output))

    @property
    def scaled_down(self) -> Transform:
        """The transform with common factors of G's rows in A's columns: its weights are smaller."""
        factors = [gcd(*row) for row in self.weight]
        weight = (tuple(g // f for g in row) for f, row in zip(factors, self.weight, strict=True))
        output = (tuple(a * f for f, a in zip(factors, row, strict=True)) for row in self.output)
        return replace(self, weight=tuple(weight), output=tuple(output))

    def __str__(self) -> str:
        kernel = "" if self.kernel == 3 else f", {self.kernel}x{self.kernel}"
        stride = "" if self.stride == 1 else f" by {self.stride}"
        return f"F({self.size}x{self.size}{kernel}){stride}"


def _interleaved(even: Transform) -> Transform:
    """Return the transform of stride 2 of a kernel with one tap more: an odd one in the middle.

    ``even`` has two taps. The odd codes have a product each, by the odd tap.
    """
    size, points = even.size, even.points
    scale = round(even.scale**0.5)  # along one axis
    reach = 2 * even.reach - 1
    rows = [_spread(row, reach) for row in even.input]
    rows += [tuple(int(i == 2 * j + 1) for i in range(reach)) for j in range(size)]
    weight = [(first, 0, second) for first, second in even.weight]
    output = [(*row, *(int(i == j) for j in range(size))) for i, row in enumerate(even.output)]
    assert len(rows) == points + size
    return Transform(tuple(rows), (*weight, *[(0, scale, 0)] * size), tuple(output), even.scale, 2)


def _spread(row: tuple[int, ...], reach: int) -> tuple[int, ...]:
    """Return ``row`` with zeros between its elements."""
    return tuple(0 if i % 2 else row[i // 2] for i in range(reach))


F2 = Transform(  # points 0, 1, -1, infinity
    input=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    weight=((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)),
    output=((1, 1, 1, 0), (0, 1, -1, -1)),
    scale=4,
)
F3 = Transform(  # points 0, 1, -1, 2, infinity
    input=(
        *((2, -1, -2, 1, 0), (0, -2, -1, 1, 0), (0, 2, -3, 1, 0)),
        *((0, -1, 0, 1, 0), (0, 2, -1, -2, 1)),
    ),
    weight=((1, 0, 0), (1, 1, 1), (1, -1, 1), (1, 2, 4), (0, 0, 1)),
    output=((3, -3, -1, 1, 0), (0, -3, 1, 2, 0), (0, -3, -1, 4, 6)),
    scale=36,
)
F4 = Transform(  # points 0, 1, -1, 2, -2, infinity
    input=(
        *((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0)),
        *((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
    ),
    weight=((1, 0, 0), (1, 1, 1), (1, -1, 1), (1, 2, 4), (1, -2, 4), (0, 0, 1)),
    output=(
        *((6, -4, -4, 1, 1, 0), (0, -4, 4, 2, -2, 0)),
        *((0, -4, -4, 4, 4, 0), (0, -4, 4, 8, -8, 24)),
    ),
    scale=576,
)
F3_OF_4 = Transform(  # a kernel of 4x4; points as in F4
    input=F4.input,
    weight=(
        *((1, 0, 0, 0), (1, 1, 1, 1), (1, -1, 1, -1)),
        *((1, 2, 4, 8), (1, -2, 4, -8), (0, 0, 0, 1)),
    ),
    output=((6, -4, -4, 1, 1, 0), (0, -4, 4, 2, -2, 0), (0, -4, -4, 4, 4, 24)),
    scale=576,
)
F2_BY_2 = _interleaved(  # even taps: points 0, 1, infinity
    Transform(
        input=((1, -1, 0), (0, 1, 0), (0, -1, 1)),
        weight=((1, 0), (1, 1), (0, 1)),
        output=((1, 1, 0), (0, 1, 1)),
        scale=1,
    )
)
F3_BY_2 = _interleaved(  # even taps: points as in F2
    Transform(
        input=F2.input,
        weight=((2, 0), (1, 1), (1, -1), (0, 2)),
        output=((1, 1, 1, 0), (0, 1, -1, 0), (0, 1, 1, -1)),
        scale=4,
    )
)
F4_BY_2 = _interleaved(  # even taps: points as in F3
    Transform(
        input=F3.input,
        weight=((1, 0), (1, 1), (1, -1), (1, 2), (0, 1)),
        output=((3, -3, -1, 1, 0), (0, -3, 1, 2, 0), (0, -3, -1, 4, 0), (0, -3, 1, 8, 6)),
        scale=36,
    )
)
TRANSFORMS = (F2, F3, F4, F3_OF_4, F2_BY_2, F3_BY_2, F4_BY_2)
