"""Pooling, channel vector by channel vector.

A window's taps that lie outside the image are skipped by the bounds of the loop over taps: they
never win a maximum, and they add zero to a sum of ``x - zero_point``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq import numerics
from gmpq.backends import reference
from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Expr,
    assign,
    c_function,
    cast,
    load,
    registers,
    splat,
    store,
    to_codes,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import AvgPool, GlobalAvgPool, MaxPool, Padding, QParams, Window


def build_max(site: Site) -> Call:
    """Return the call of a max pool."""
    (x,), node = site.inputs, site.node
    assert isinstance(node, MaxPool)
    function = _max_pool(x.codes, site.output.codes, node.window)
    return site.call(function)


def build_average(site: Site) -> Call:
    """Return the call of an average pool, with its float32 factor per output pixel."""
    (x,), node, y = site.inputs, site.node, site.output
    shape = (x.codes.height, x.codes.width)
    if isinstance(node, GlobalAvgPool):
        node = AvgPool(node.name, node.inputs, node.output, Window(shape), Padding())
    assert isinstance(node, AvgPool)
    counts = reference.divisors(shape, node)
    factor = numerics.average_multiplier(x.q.scale, y.q.scale, counts)
    function = _average_pool(x.codes, y.codes, node.window, x.q, y.q)
    return site.call(function, (np.ascontiguousarray(factor),))


MAX = Family("max-pool", (MaxPool,), only(build_max))
AVERAGE = Family("average-pool", (AvgPool, GlobalAvgPool), only(build_average))


@dataclass(frozen=True, slots=True)
class _Taps:
    """The taps of one window along one axis that lie in the image."""

    first: Expr
    count: Expr
    origin: Expr  # coordinate of tap 0
    dilation: int

    def at(self, index: Expr) -> Expr:
        """Return the coordinate of the valid tap ``index``."""
        return self.origin + (self.first + index) * self.dilation


def _taps(window: Window, axis: int, place: Expr, extent: int) -> _Taps:
    dilation, size = window.dilation[axis], window.kernel[axis]
    origin = place * window.stride[axis] - window.padding[axis]
    first = T.max(0, T.floordiv(dilation - 1 - origin, dilation))
    end = T.min(size, T.floordiv(extent - 1 - origin, dilation) + 1)
    return _Taps(first, T.max(0, end - first), origin, dilation)


def _max_pool(x: Layout, y: Layout, window: Window) -> PrimFunc:
    lanes = next(n for n in (64, 32, VECTOR) if y.stored % n == 0)

    def body(x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(y.width, y.stored // lanes) as (column, v):
                largest = registers(1, f"uint8x{lanes}")[0]
                assign(largest, splat(T.uint8(0), lanes))
                rows = _taps(window, 0, row, x.height)
                columns = _taps(window, 1, column, x.width)
                with T.serial(0, rows.count) as r, T.serial(0, columns.count) as s:
                    place = _place(x, image, rows.at(r), columns.at(s)) + v * lanes
                    assign(largest, T.max(largest[0], load(source, place, lanes)))
                store(target, _place(y, image, row, column) + v * lanes, largest[0], lanes)

    return c_function((("x", "uint8"), ("y", "uint8")), body)


def _average_pool(x: Layout, y: Layout, window: Window, qx: QParams, qy: QParams) -> PrimFunc:
    def body(x_: Expr, factor_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        factor = view(factor_, "float32", y.height * y.width)
        vectors = y.stored // VECTOR
        with T.parallel(0, y.batch * vectors * y.height) as item:
            image, v, row = (
                item // (vectors * y.height),
                item // y.height % vectors,
                item % y.height,
            )
            with T.serial(0, y.width) as column:
                total = registers(1, "int32x16")[0]
                assign(total, splat(T.int32(0), VECTOR))
                rows = _taps(window, 0, row, x.height)
                columns = _taps(window, 1, column, x.width)
                with T.serial(0, rows.count) as r, T.serial(0, columns.count) as s:
                    place = _place(x, image, rows.at(r), columns.at(s)) + v * VECTOR
                    codes = cast("int32", VECTOR, load(source, place, VECTOR))
                    assign(total, total[0] + codes - splat(T.int32(qx.zero_point), VECTOR))
                scale = splat(factor[row * y.width + column], VECTOR)
                steps = cast("float32", VECTOR, total[0]) * scale
                mean = to_codes(steps, qy, VECTOR)
                store(target, _place(y, image, row, column) + v * VECTOR, mean, VECTOR)

    return c_function((("x", "uint8"), ("factor", "float32"), ("y", "uint8")), body)


def _place(layout: Layout, image: Expr, row: Expr, column: Expr) -> Expr:
    return layout.origin + image * layout.image + row * layout.row + column * layout.stored
