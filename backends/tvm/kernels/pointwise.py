"""Element by element: residual addition, tables, and requantized copies.

All images of one node have equal rows of ``width * stored`` codes, whatever their halos, and a row
is walked vector by vector. A requantized copy is a table too: one code maps to one code.
"""

from __future__ import annotations

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, Site, only
from gmpq.backends.tvm.layout import VECTOR, Layout
from gmpq.backends.tvm.script import Expr, c_function, cast, load, splat, store, view
from gmpq.ir import Add, Lookup, QParams, Requantize
from gmpq.numerics import Codes, dequantize, quantize

CODES = np.arange(256, dtype=np.uint8)


def build_add(site: Site) -> Call:
    """Return the call that adds two tensors of one scale."""
    a, b = site.inputs
    function = _add(a.codes, b.codes, site.output.codes, a.q, b.q, site.output.q)
    return Call(function, (a.value.name, b.value.name), (), site.output.value.name)


def build_table(site: Site) -> Call:
    """Return the call that maps every code through a table, [256] or [stored channels, 256]."""
    (x,) = site.inputs
    table = _table(site)
    if table.ndim == 2:
        table = np.pad(table, ((0, x.codes.stored - len(table)), (0, 0)))
    function = _look_up(x.codes, site.output.codes, per_channel=table.ndim == 2)
    return Call(function, (x.value.name,), (table,), site.output.value.name)


def _table(site: Site) -> Codes:
    node = site.node
    if isinstance(node, Lookup):
        return node.table
    assert isinstance(node, Requantize)
    qx, qy = site.inputs[0].q, site.output.q
    real = dequantize(CODES, qx.scale, qx.zero_point)
    return quantize(real, qy.scale, qy.zero_point, qy.low, qy.high)


ADD = Family("add", (Add,), only(build_add))
TABLE = Family("table", (Lookup, Requantize), only(build_table))


def _add(a: Layout, b: Layout, y: Layout, qa: QParams, qb: QParams, qy: QParams) -> PrimFunc:
    shift = qy.zero_point - qa.zero_point - qb.zero_point

    def body(a_: Expr, b_: Expr, y_: Expr) -> None:
        sources = [view(a_, "uint8", a.size_bytes), view(b_, "uint8", b.size_bytes)]
        target = view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.serial(0, y.width * y.stored // VECTOR) as v:
                terms = [
                    cast("int16", VECTOR, load(s, _start(k, image, row) + v * VECTOR, VECTOR))
                    for s, k in zip(sources, (a, b), strict=True)
                ]
                total = terms[0] + terms[1] + splat(T.int16(shift), VECTOR)
                low, high = splat(T.int16(qy.low), VECTOR), splat(T.int16(qy.high), VECTOR)
                codes = cast("uint8", VECTOR, T.max(T.min(total, high), low))
                store(target, _start(y, image, row) + v * VECTOR, codes, VECTOR)

    return c_function((("a", "uint8"), ("b", "uint8"), ("y", "uint8")), body)


def _look_up(x: Layout, y: Layout, *, per_channel: bool) -> PrimFunc:
    def body(x_: Expr, table_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        table = view(table_, "uint8", 256 * (x.stored if per_channel else 1))
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(y.width, y.channels) as (column, c):
                code = cast("int32", 1, source[_start(x, image, row) + column * x.stored + c])
                entry = table[c * 256 + code if per_channel else code]
                store(target, _start(y, image, row) + column * y.stored + c, entry, 1)

    return c_function((("x", "uint8"), ("table", "uint8"), ("y", "uint8")), body)


def _start(layout: Layout, image: Expr, row: Expr) -> Expr:
    return layout.origin + image * layout.image + row * layout.row
