"""The loops of depthwise convolution that sum one channel per lane, and what its families refuse.

The accumulators of a run of pixels start at ``bias - z * sum of w``, as in ``direct``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    cast,
    clamped_start,
    load,
    registers,
    store,
    to_codes,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Conv2d, Window


def refuses(site: Site) -> str | None:
    """Return why the site is no depthwise convolution with one output per channel."""
    node = site.node
    assert isinstance(node, Conv2d)
    channels = site.inputs[0].codes.channels
    if node.groups == channels == site.output.codes.channels and channels > 1:
        return None
    return f"needs one group per channel, has {node.groups} groups of {channels} channels"


def refuses_reals(site: Site) -> str | None:
    """Return why a site is not depthwise, or that its output is not codes, which others need."""
    if site.output.value.q is None:
        return "writes codes, not float32"
    return refuses(site)


def constants(site: Site, sums: ChannelSums, shift: int = 0) -> tuple[Array, Array, Array]:
    """Return weights [taps, C] in the type of ``sums``, int32 start values and float32 factors.

    The latter two are [C]; codes come less ``shift``.
    """
    node, y = site.node, site.output.codes
    assert isinstance(node, Conv2d)
    start, factor = start_and_factor(node.weight, site.inputs[0].q, site.output.value.q)
    taps = node.weight.codes.reshape(y.channels, -1)
    begun = (start + shift * taps.sum(axis=1, dtype=np.int64)).astype(np.int32)
    padding = (0, y.stored - y.channels)
    weights = np.ascontiguousarray(np.pad(taps, (padding, (0, 0))).T).astype(sums.dtype)
    return weights, np.pad(begun, padding), np.pad(factor, padding)


@dataclass(frozen=True, slots=True)
class ChannelTile:
    """Sixteen channels of a run of pixels: where their codes and weights lie."""

    x: Layout
    y: Layout
    window: Window
    source: Buffer
    weights: Buffer
    start: Buffer
    place: Expr  # of the first tap of the first pixel
    vector: Expr

    @property
    def taps(self) -> list[tuple[int, int]]:
        """Row and column of every tap."""
        rows, columns = self.window.kernel
        return list(product(range(rows), range(columns)))

    def begin(self, acc: list[Buffer]) -> None:
        """Put the start values into the accumulators."""
        for slot in acc:
            assign(slot, load(self.start, self.vector * VECTOR, VECTOR))

    def codes(self, tap: int, pixel: int) -> Expr:
        """Return the codes that a tap of a pixel reads."""
        (r, s), (dy, dx) = self.taps[tap], self.window.dilation
        offset = r * dy * self.x.row + (s * dx + pixel * self.window.stride[1]) * self.x.stored
        return load(self.source, self.place + offset, VECTOR)

    def weight(self, tap: int) -> Expr:
        """Return the weights of a tap."""
        return load(self.weights, tap * self.y.stored + self.vector * VECTOR, VECTOR)


@dataclass(frozen=True, slots=True)
class ChannelSums:
    """How many pixels of a row are summed at once, by what, from weights of which type."""

    columns: int
    dtype: str
    accumulate: Callable[[list[Buffer], ChannelTile], None]


def kernel(site: Site, sums: ChannelSums) -> PrimFunc:
    """Return ``f(x, weights [taps, C], start, factor, y)``."""
    node, x, y, q = site.node, site.inputs[0].codes, site.output.codes, site.output.value.q
    assert isinstance(node, Conv2d)
    window, columns, dtype = node.window, sums.columns, epilogue_of(site).dtype

    def body(x_: Expr, w_: Expr, start_: Expr, factor_: Expr, y_: Expr) -> None:
        source, result = view(x_, "uint8", x.size_bytes), view(y_, dtype, y.size)
        weights = view(w_, sums.dtype, window.kernel[0] * window.kernel[1] * y.stored)
        start, factor = view(start_, "int32", y.stored), view(factor_, "float32", y.stored)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(y.stored // VECTOR, -(-y.width // columns)) as (v, tile):
                column = clamped_start(tile, columns, y.width)
                acc = registers(columns, "int32x16")
                place = _corner(x, window, image, row, column) + v * VECTOR
                sums.accumulate(acc, ChannelTile(x, y, window, source, weights, start, place, v))
                corner = y.origin + image * y.image + row * y.row + column * y.stored + v * VECTOR
                scale = load(factor, v * VECTOR, VECTOR)
                for p, slot in enumerate(acc):
                    steps = cast("float32", VECTOR, slot[0]) * scale
                    found = steps if q is None else to_codes(steps, q, VECTOR)
                    store(result, corner + p * y.stored, found, VECTOR)

    names = (("x", "uint8"), ("w", sums.dtype), ("start", "int32"), ("factor", "float32"))
    return c_function((*names, ("y", dtype)), body)


def tile_columns(width: int, most: int) -> int:
    """Return the pixels of a tile: the fewest computed twice, then the most at once."""
    return min(range(1, min(width, most) + 1), key=lambda n: (-(-width // n) * (n + 2), -n))


def _corner(x: Layout, window: Window, image: Expr, row: Expr, column: Expr) -> Expr:
    first = x.origin - window.padding.top * x.row - window.padding.left * x.stored
    down, across = row * (window.stride[0] * x.row), column * (window.stride[1] * x.stored)
    return first + image * x.image + down + across
