"""Nodes that only move codes, or float32: concatenation, padding, reshaping and enlargement.

One thread per code. A float32 value lies densely in its logical order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.gpu.elementwise.words import pixel_start
from gmpq.backends.tvm.kernels.gpu.isa.borders import Border, borders_of
from gmpq.backends.tvm.kernels.gpu.isa.builder import Expr, item_kernel, register, store, view
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import Concat, Pad, Padding, Reshape, Shape, Upsample

Pixel: TypeAlias = tuple[Expr, Expr, Expr]  # row, column, channel


def build(site: Site) -> Call:
    """Return the call that copies the codes of all inputs to their places."""
    sources, y, borders = tuple(x.codes for x in site.inputs), site.output.codes, borders_of(site)
    match site.node:
        case Concat():
            return site.call(_concat(sources, y, borders))
        case Pad(padding=padding):
            zero_point = site.output.q.zero_point
            return site.call(_pad(sources[0], y, padding, zero_point, borders))
        case Upsample(factors=(rows, columns)):
            origin = partial(_reduced, rows, columns)
            return site.call(_copy(sources[0], y, origin, borders))
        case Reshape():
            return site.call(_copy(sources[0], y, _refolded(sources[0], y), borders))
        case _:
            raise AssertionError(f"{site.node} does not move codes")


def refuses(site: Site) -> str | None:
    """Return why there are no codes to move."""
    return "moves codes, not float32" if site.output.value.q is None else None


def build_reals(site: Site) -> Call:
    """Return the call that joins float32 values; a reshaped one is joined with nothing."""
    return site.call(_concat_reals([tensor.value.shape for tensor in site.inputs]))


def refuses_codes(site: Site) -> str | None:
    """Return why there is no float32 to move."""
    return None if site.output.value.q is None else "moves float32, not codes"


CODES = Family("move", (Concat, Pad, Reshape, Upsample), only(build), refuses)
REALS = Family("reals", (Concat, Reshape), only(build_reals), refuses_codes)


def _elements(y: Layout) -> int:
    return y.batch * y.height * y.width * y.channels


def _element(item: Expr, y: Layout) -> tuple[Expr, Pixel]:
    """Return the image, and the place of element ``item`` in it."""
    channel, pixel = item % y.channels, item // y.channels
    column, rows = pixel % y.width, pixel // y.width
    return rows // y.height, (rows % y.height, column, channel)


def _refolded(x: Layout, y: Layout) -> Callable[[Expr, Expr, Expr], Pixel]:
    """Return where in ``x`` an element of ``y`` lies: equal places in the order [C, H, W]."""

    def place(row: Expr, column: Expr, channel: Expr) -> Pixel:
        if (x.channels, x.height, x.width) == (y.channels, y.height, y.width):
            return row, column, channel
        flat = register((channel * y.height + row) * y.width + column)
        return flat // x.width % x.height, flat % x.width, flat // (x.width * x.height)

    return place


def _reduced(rows: int, columns: int, row: Expr, column: Expr, channel: Expr) -> Pixel:
    return row // rows, column // columns, channel


def _copy(
    x: Layout,
    y: Layout,
    origin: Callable[[Expr, Expr, Expr], Pixel],
    borders: tuple[Border, ...],
) -> PrimFunc:
    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        image, place = _element(item, y)
        store(target, _place(y, image, *place), source[_place(x, image, *origin(*place))])

    return item_kernel((("x", "uint8"), ("y", "uint8")), _elements(y), body, borders)


def _concat(sources: tuple[Layout, ...], y: Layout, borders: tuple[Border, ...]) -> PrimFunc:
    def body(item: Expr, *pointers: Expr) -> None:
        *inputs, output = pointers
        target = view(output, "uint8", y.size_bytes)
        image, (row, column, channel) = _element(item, y)
        first = 0
        for pointer, x in zip(inputs, sources, strict=True):
            source = view(pointer, "uint8", x.size_bytes)
            own = T.And(channel >= first, channel < first + x.channels)
            with T.If(own), T.Then():
                code = source[_place(x, image, row, column, channel - first)]
                store(target, _place(y, image, row, column, channel), code)
            first += x.channels

    names = [(f"x{i}", "uint8") for i in range(len(sources))]
    return item_kernel((*names, ("y", "uint8")), _elements(y), body, borders)


def _pad(
    x: Layout, y: Layout, padding: Padding, zero_point: int, borders: tuple[Border, ...]
) -> PrimFunc:
    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        image, (row, column, channel) = _element(item, y)
        place = register(_place(y, image, row, column, channel))
        h, w = register(row - padding.top), register(column - padding.left)
        inside = T.And(T.And(h >= 0, h < x.height), T.And(w >= 0, w < x.width))
        with T.If(inside):
            with T.Then():
                store(target, place, source[_place(x, image, h, w, channel)])
            with T.Else():
                store(target, place, T.uint8(zero_point))

    return item_kernel((("x", "uint8"), ("y", "uint8")), _elements(y), body, borders)


def _place(layout: Layout, image: Expr, row: Expr, column: Expr, channel: Expr) -> Expr:
    return pixel_start(layout, image, row, column) + channel


def _concat_reals(shapes: list[Shape]) -> PrimFunc:
    batch, sizes = shapes[0][0], [prod(shape[1:]) for shape in shapes]
    total = sum(sizes)

    def body(item: Expr, *pointers: Expr) -> None:
        *inputs, output = pointers
        target = view(output, "float32", batch * total)
        image, place, first = item // total, item % total, 0
        for pointer, size in zip(inputs, sizes, strict=True):
            source = view(pointer, "float32", batch * size)
            with T.If(T.And(place >= first, place < first + size)), T.Then():
                store(target, item, source[image * size + place - first])
            first += size

    names = [(f"x{i}", "float32") for i in range(len(shapes))]
    return item_kernel((*names, ("y", "float32")), batch * total, body)
