"""Exact integer Winograd convolution: the algebra, and the proof that a layer's values fit.

For a kernel g of 3x3 and a tile d of (m+2)x(m+2) input codes, with integer matrices B, G and A,

    scale * (d convolved with g)  =  A^T [ (G g G^T) * (B^T d B) ] A

where * is element by element (Winograd 1980; Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2015). Nothing rounds: G and A are multiplied by whole numbers until they are
whole, and ``scale`` is what that multiplies the result by.

What must be proved for a layer, from its real weights and the codes of its input:

- an input tile after B^T d B, plus an offset per position, lies in 0..255. With the sums p and n of
  the positive and negative coefficients of a position and codes in low..high, its values span
  (p + n) * (high - low), and the offset is n * high - p * low. The offset returns as the constant
  -offset * (sum of the transformed weights) in the accumulator's start value;
- the transformed weights lie in -128..127; a position where they do not is split into two
  summands, which costs one more product there;
- scale times the accumulator lies in int32. Partial sums may wrap: addition modulo 2**32 is exact
  if its result fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.ir import Conv2d, QParams

Matrix: TypeAlias = tuple[tuple[int, ...], ...]
Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Transform:
    """Integer matrices of F(m x m, 3x3), and what they multiply the result by."""

    input: Matrix  # B^T, [m + 2, m + 2]
    weight: Matrix  # G, [m + 2, 3]
    output: Matrix  # A^T, [m, m + 2]
    scale: int

    @property
    def size(self) -> int:
        """Rows and columns of outputs that one tile computes: m."""
        return len(self.output)

    @property
    def reach(self) -> int:
        """Rows and columns of inputs that one tile reads: m + 2."""
        return len(self.input)

    @property
    def positions(self) -> int:
        """Products per input channel of one tile."""
        return self.reach * self.reach

    def __str__(self) -> str:
        return f"F({self.size}x{self.size})"


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
TRANSFORMS = (F2, F3, F4)


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """What the proof found: offsets and transformed weights by position."""

    offsets: Integers  # [positions]
    weights: NDArray[np.int8]  # [positions + splits, O, I]
    splits: tuple[int, ...]  # positions whose second summands follow after the first ones
    sums: Integers  # [positions, O], of the transformed weights over the input channels


def prove(node: Conv2d, qx: QParams, transform: Transform) -> Proof | str:
    """Return the proof that every value fits, or the reason why one does not."""
    low, high = min(qx.low, qx.zero_point), max(qx.high, qx.zero_point)
    coefficients = np.einsum("ia,jb->ijab", np.array(transform.input), np.array(transform.input))
    flat = coefficients.reshape(transform.positions, -1)
    positive = np.maximum(flat, 0).sum(axis=1)
    negative = np.maximum(-flat, 0).sum(axis=1)
    span = int((positive + negative).max()) * (high - low)
    if span > 255:
        return f"{transform} spreads {high - low + 1} input codes over {span + 1}: 256 fit"
    weights = transformed(node.weight.codes, transform)
    if np.abs(weights).max(initial=0) > 254:
        return f"{transform} makes weights of {np.abs(weights).max()}: two bytes hold 254"
    if (bound := transform.scale * _largest_sum(node, qx)) >= 1 << 31:
        return f"{transform} makes accumulators of {bound}: int32 holds {(1 << 31) - 1}"
    first = np.clip(weights, -127, 127)
    splits = tuple(np.flatnonzero((weights != first).any(axis=(1, 2))).tolist())
    parts = np.concatenate([first, weights[list(splits)] - first[list(splits)]]).astype(np.int8)
    return Proof(negative * high - positive * low, parts, splits, weights.sum(axis=2))


def transformed(codes: NDArray[np.int8], transform: Transform) -> Integers:
    """Return G g G^T by position [positions, O, I] of weight codes [O, I, 3, 3]."""
    matrix = np.array(transform.weight, np.int64)
    weights: Integers = np.einsum("ia,ocab,jb->ijoc", matrix, codes.astype(np.int64), matrix)
    return weights.reshape(transform.positions, *codes.shape[:2])


def _largest_sum(node: Conv2d, qx: QParams) -> int:
    """Return a bound on the accumulator's absolute value, bias included."""
    reach = max(abs(qx.low - qx.zero_point), abs(qx.high - qx.zero_point))
    products = np.abs(node.weight.codes.astype(np.int64)).sum(axis=(1, 2, 3)) * reach
    return int((products + np.abs(node.weight.bias.astype(np.int64))).max())
