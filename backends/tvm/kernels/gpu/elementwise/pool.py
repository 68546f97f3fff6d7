"""Pooling, one thread per word of the output.

A window's taps outside of the image are skipped: they never win a maximum, and they add zero to a
sum of ``x - zero_point``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq import numerics
from gmpq.backends import reference
from gmpq.backends.tvm.kernels.base import Call, Family, Tensor, only
from gmpq.backends.tvm.kernels.gpu.elementwise.words import Place, pixel_start, place_of, words_of
from gmpq.backends.tvm.kernels.gpu.isa import instructions
from gmpq.backends.tvm.kernels.gpu.isa.borders import Border, borders_of
from gmpq.backends.tvm.kernels.gpu.isa.builder import (
    WORD,
    Buffer,
    Expr,
    code_of,
    item_kernel,
    local,
    register,
    store,
    value_of,
    view,
    word_of,
)
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import AvgPool, GlobalAvgPool, MaxPool, Padding, Window


def build_max(site: Site) -> Call:
    """Return the call of a max pool."""
    (x,), node = site.inputs, site.node
    assert isinstance(node, MaxPool)
    return site.call(_max_pool(x.codes, site.output.codes, node.window, borders_of(site)))


def build_average(site: Site) -> Call:
    """Return the call of an average pool, with its float32 factor per output pixel."""
    (x,), node, y = site.inputs, site.node, site.output
    shape = (x.codes.height, x.codes.width)
    if isinstance(node, GlobalAvgPool):
        node = AvgPool(node.name, node.inputs, node.output, Window(shape), Padding())
    assert isinstance(node, AvgPool)
    counts = reference.divisors(shape, node)
    factor = numerics.average_multiplier(x.q.scale, y.q.scale, counts)
    function = _average_pool(x, y, node.window, borders_of(site))
    return site.call(function, (np.ascontiguousarray(factor),))


MAX = Family("max-pool", (MaxPool,), only(build_max))
AVERAGE = Family("average-pool", (AvgPool, GlobalAvgPool), only(build_average))


def _over_taps(x: Layout, window: Window, place: Place, visit: Callable[[Expr], None]) -> None:
    """Run ``visit`` with the place, counted as uint32, of every tap in the image."""
    with (
        T.serial(0, window.kernel[0], unroll=False) as r,
        T.serial(0, window.kernel[1], unroll=False) as s,
    ):
        row = register(place.row * window.stride[0] - window.padding[0] + r * window.dilation[0])
        column = register(
            place.column * window.stride[1] - window.padding[1] + s * window.dilation[1]
        )
        inside = T.And(T.And(row >= 0, row < x.height), T.And(column >= 0, column < x.width))
        with T.If(inside), T.Then():
            visit(pixel_start(x, place.image, row, column) // WORD + place.word)


def _max_pool(x: Layout, y: Layout, window: Window, borders: tuple[Border, ...]) -> PrimFunc:
    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        source = view(x_, "uint32", x.size_bytes // WORD)
        target = view(y_, "uint32", y.size_bytes // WORD)
        place, largest = place_of(item, y), _filled(0)

        def visit(tap: Expr) -> None:
            word = register(source[tap], "uint32")
            for i in range(WORD):
                store(largest, i, T.max(largest[i], code_of(word, i)))

        _over_taps(x, window, place, visit)
        store(target, place.in_words(y), word_of([largest[i] for i in range(WORD)]))

    return item_kernel((("x", "uint32"), ("y", "uint32")), words_of(y), body, borders)


def _average_pool(x_: Tensor, y_: Tensor, window: Window, borders: tuple[Border, ...]) -> PrimFunc:
    x, y, zero_point = x_.codes, y_.codes, x_.q.zero_point
    name, code = instructions.requantized(y_.q)

    def body(item: Expr, x_: Expr, factor_: Expr, y_: Expr) -> None:
        source = view(x_, "uint32", x.size_bytes // WORD)
        factor = view(factor_, "float32", y.height * y.width)
        target = view(y_, "uint32", y.size_bytes // WORD)
        place, total = place_of(item, y), _filled(0)

        def visit(tap: Expr) -> None:
            word = register(source[tap], "uint32")
            for i in range(WORD):
                store(total, i, total[i] + code_of(word, i) - T.int32(zero_point))

        _over_taps(x, window, place, visit)
        scale = register(factor[place.row * y.width + place.column], "float32")
        codes = [value_of(name, "int32", total[i], scale, source=code) for i in range(WORD)]
        store(target, place.in_words(y), word_of([register(c) for c in codes]))

    names = (("x", "uint32"), ("factor", "float32"), ("y", "uint32"))
    return item_kernel(names, words_of(y), body, borders)


def _filled(value: int) -> Buffer:
    slots = local(WORD, "int32")
    for i in range(WORD):
        store(slots, i, T.int32(value))
    return slots
