"""Residual addition of codes that share one scale.

All images of one node have equal rows of ``width * stored`` codes, whatever their halos, and a row
is walked vector by vector.
"""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Expr,
    c_function,
    cast,
    load,
    splat,
    store,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Add, QParams


def build(site: Site) -> Call:
    """Return the call that adds two tensors of one scale."""
    a, b = site.inputs
    function = _add(a.codes, b.codes, site.output.codes, a.q, b.q, site.output.q)
    return site.call(function)


FAMILY = Family("add", (Add,), only(build))


def _add(a: Layout, b: Layout, y: Layout, qa: QParams, qb: QParams, qy: QParams) -> PrimFunc:
    shift = qy.zero_point - qa.zero_point - qb.zero_point

    def body(a_: Expr, b_: Expr, y_: Expr) -> None:
        sources = [view(a_, "uint8", a.size_bytes), view(b_, "uint8", b.size_bytes)]
        target = view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.serial(0, y.width * y.stored // VECTOR) as v:
                terms = [
                    cast("int16", VECTOR, load(s, row_start(k, image, row) + v * VECTOR, VECTOR))
                    for s, k in zip(sources, (a, b), strict=True)
                ]
                total = terms[0] + terms[1] + splat(T.int16(shift), VECTOR)
                low, high = splat(T.int16(qy.low), VECTOR), splat(T.int16(qy.high), VECTOR)
                codes = cast("uint8", VECTOR, T.max(T.min(total, high), low))
                store(target, row_start(y, image, row) + v * VECTOR, codes, VECTOR)

    return c_function((("a", "uint8"), ("b", "uint8"), ("y", "uint8")), body)


def row_start(layout: Layout, image: Expr, row: Expr) -> Expr:
    """Return the place of the first code of a row."""
    return layout.origin + image * layout.image + row * layout.row
