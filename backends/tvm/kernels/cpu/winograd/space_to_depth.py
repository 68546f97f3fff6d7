"""Space to depth: a convolution of stride 2 on few channels becomes one of stride 1 on more.

Two rows and two columns of codes become the channels of one pixel of an image of half the size; a
kernel of k x k becomes one of ceil(k / 2) x ceil(k / 2), with zeros where k is odd:

    sum over r, s of w[r, s] * x[2 i + r, 2 j + s]
        =  sum over R, S and p, q in 0..1 of w[2 R + p, 2 S + q] * x[2 (i + R) + p, 2 (j + S) + q]

Nothing is copied: a pixel is read as two runs of eight codes, whose padding channels are dropped.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.layout import Layout, folds
from gmpq.backends.tvm.target.cpu import FOLD, GROUP, RULES
from gmpq.ir import Conv2d, Window


def space_to_depth(node: Conv2d, x: Layout) -> tuple[Conv2d, int]:
    """Return the convolution as it is computed, and the rows and columns that one pixel holds."""
    if not folds(node.window, x.channels, node.groups, RULES) or x.stored != GROUP:
        return node, 1
    codes = folded(node.weight.codes)
    window = Window((codes.shape[2], codes.shape[3]), padding=node.window.padding)
    return replace(node, weight=replace(node.weight, codes=codes), window=window), FOLD


def kept_lanes(channels: int) -> list[int]:
    """Return where the channels of a pixel lie in its two runs of codes, up to whole sixteen."""
    pixels = product(range(FOLD), range(FOLD), range(channels))
    lanes = [(row * FOLD + column) * GROUP + channel for row, column, channel in pixels]
    return lanes + [0] * (FOLD * FOLD * GROUP - len(lanes))


def folded(codes: Array) -> Array:
    """Return weights int8 [O, 4 * C, ceil(kH / 2), ceil(kW / 2)] of [O, C, kH, kW]."""
    outputs, channels, rows, columns = codes.shape
    even = np.pad(codes, ((0, 0), (0, 0), (0, rows % FOLD), (0, columns % FOLD)))
    split = even.reshape(outputs, channels, -(-rows // FOLD), FOLD, -(-columns // FOLD), FOLD)
    pixels = split.transpose(0, 3, 5, 1, 2, 4)  # [O, row, column, C, kH / 2, kW / 2]
    return np.ascontiguousarray(pixels.reshape(outputs, -1, *pixels.shape[4:]))
