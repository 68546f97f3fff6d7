"""Sums, products and tables of codes, word by word.

sum      y = clip(a + b + z_y - z_a - z_b, low, high)             of one scale
product  y = clip(round_half_even(float32((a - z_a) * (b - z_b)) * factor) + z_y, low, high)
table    y = table[x] or table[channel, x]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq import numerics
from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.gpu.elementwise.words import place_of, words_of
from gmpq.backends.tvm.kernels.gpu.isa import instructions
from gmpq.backends.tvm.kernels.gpu.isa.borders import Border, borders_of
from gmpq.backends.tvm.kernels.gpu.isa.builder import (
    WORD,
    Expr,
    clip,
    code_of,
    item_kernel,
    register,
    store,
    value_of,
    view,
    word_of,
)
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.kernels.requant import requantized
from gmpq.ir import Add, Lookup, Multiply, Requantize

CODES = 256


def build_add(site: Site) -> Call:
    """Return the call that adds two tensors of one scale."""
    (a, b), y = site.inputs, site.output
    shift = y.q.zero_point - a.q.zero_point - b.q.zero_point

    def total(first: Expr, second: Expr) -> Expr:
        return clip(first + second + T.int32(shift), y.q.low, y.q.high)

    return site.call(_of_two((a.codes, b.codes, y.codes), total, borders_of(site)))


def build_multiply(site: Site) -> Call:
    """Return the call that multiplies two tensors, gates of one pixel second."""
    a, b = sorted(site.inputs, key=lambda x: -x.codes.height * x.codes.width)
    scale = numerics.product_scale(a.q.scale, b.q.scale)
    factor = float(numerics.multiplier(scale, site.output.q.scale))
    name, source = instructions.requantized(site.output.q)

    def product(first: Expr, second: Expr) -> Expr:
        centred = (first - T.int32(a.q.zero_point)) * (second - T.int32(b.q.zero_point))
        return value_of(name, "int32", centred, T.float32(factor), source=source)

    layouts = a.codes, b.codes, site.output.codes
    call = site.call(_of_two(layouts, product, borders_of(site)))
    return replace(call, inputs=(a.value.name, b.value.name))


def _of_two(
    layouts: tuple[Layout, Layout, Layout],
    function: Callable[[Expr, Expr], Expr],
    borders: tuple[Border, ...],
) -> PrimFunc:
    """Return the kernel of ``function`` of two codes; the second may have one pixel for all."""
    a, b, y = layouts
    gates = (b.height, b.width) == (1, 1)

    def body(item: Expr, a_: Expr, b_: Expr, y_: Expr) -> None:
        first, second, target = (
            view(pointer, "uint32", layout.size_bytes // WORD)
            for pointer, layout in ((a_, a), (b_, b), (y_, y))
        )
        place = place_of(item, y)
        other = replace(place, row=0, column=0) if gates else place
        one = register(first[place.in_words(a)], "uint32")
        two = register(second[other.in_words(b)], "uint32")
        codes = [register(function(code_of(one, i), code_of(two, i))) for i in range(WORD)]
        store(target, place.in_words(y), word_of(codes))

    names = (("a", "uint32"), ("b", "uint32"), ("y", "uint32"))
    return item_kernel(names, words_of(y), body, borders)


def build_table(site: Site) -> Call:
    """Return the call that maps codes through a table, [256] or [stored channels, 256]."""
    (x,) = site.inputs
    table = site.node.table if isinstance(site.node, Lookup) else requantized(x.q, site.output.q)
    if table.ndim == 2:
        table = np.pad(table, ((0, x.codes.stored - len(table)), (0, 0)))
    layouts = x.codes, site.output.codes
    function = _look_up(*layouts, borders_of(site), per_channel=table.ndim == 2)
    return site.call(function, (table,))


def _look_up(x: Layout, y: Layout, borders: tuple[Border, ...], *, per_channel: bool) -> PrimFunc:
    def body(item: Expr, x_: Expr, table_: Expr, y_: Expr) -> None:
        source = view(x_, "uint32", x.size_bytes // WORD)
        table = view(table_, "uint8", CODES * (x.stored if per_channel else 1))
        target = view(y_, "uint32", y.size_bytes // WORD)
        place = place_of(item, y)
        word = register(source[place.in_words(x)], "uint32")
        codes = []
        for byte in range(WORD):
            first = (place.word * WORD + byte) * CODES if per_channel else 0
            codes.append(register(T.Cast("int32", table[first + code_of(word, byte)])))
        store(target, place.in_words(y), word_of(codes))

    names = (("x", "uint32"), ("table", "uint8"), ("y", "uint32"))
    return item_kernel(names, words_of(y), body, borders)


ADD = Family("add", (Add,), only(build_add))
MULTIPLY = Family("multiply", (Multiply,), only(build_multiply))
TABLE = Family("table", (Lookup, Requantize), only(build_table))
