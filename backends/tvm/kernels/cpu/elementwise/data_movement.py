"""Nodes that only move codes: concatenation, padding, reshaping and enlargement."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.cpu.isa.builder import Buffer, Expr, c_function, store, view
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import Concat, Pad, Padding, Reshape, Upsample

Coordinates: TypeAlias = tuple[Expr, Expr, Expr]  # row, column, channel


def build(site: Site) -> Call:
    """Return the call that copies the codes of all inputs to their places."""
    return site.call(_function(site))


def refuses(site: Site) -> str | None:
    """Return why there are no codes to move."""
    return "moves codes, not float32" if site.output.value.q is None else None


FAMILY = Family("move", (Concat, Pad, Reshape, Upsample), only(build), refuses)


def _function(site: Site) -> PrimFunc:
    sources, y = tuple(x.codes for x in site.inputs), site.output.codes
    match site.node:
        case Concat():
            return _concat(sources, y)
        case Pad(padding=padding):
            return _pad(sources[0], y, padding, site.output.q.zero_point)
        case Upsample(factors=(rows, columns)):
            return _copy(sources[0], y, lambda h, w, c: (h // rows, w // columns, c))
        case Reshape():
            return _copy(sources[0], y, _refolded(sources[0], y))
        case _:
            raise AssertionError(f"{site.node} does not move codes")


def _refolded(x: Layout, y: Layout) -> Callable[[Expr, Expr, Expr], Coordinates]:
    """Return where in ``x`` an element of ``y`` lies: equal places in the order [C, H, W]."""

    def place(row: Expr, column: Expr, channel: Expr) -> Coordinates:
        if (x.channels, x.height, x.width) == (y.channels, y.height, y.width):
            return row, column, channel
        flat = (channel * y.height + row) * y.width + column
        return flat // x.width % x.height, flat % x.width, flat // (x.width * x.height)

    return place


def _copy(x: Layout, y: Layout, origin: Callable[[Expr, Expr, Expr], Coordinates]) -> PrimFunc:
    def body(x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(y.width, y.channels) as (column, c):
                code = source[_place(x, image, *origin(row, column, c))]
                store(target, _place(y, image, row, column, c), code, 1)

    return c_function((("x", "uint8"), ("y", "uint8")), body)


def _concat(sources: tuple[Layout, ...], y: Layout) -> PrimFunc:
    def body(*pointers: Expr) -> None:
        *inputs, output = pointers
        buffers = [view(p, "uint8", x.size_bytes) for p, x in zip(inputs, sources, strict=True)]
        target = view(output, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.serial(0, y.width) as column:
                _side_by_side(buffers, sources, target, y, (image, row, column))

    names = [(f"x{i}", "uint8") for i in range(len(sources))]
    return c_function((*names, ("y", "uint8")), body)


def _side_by_side(
    buffers: list[Buffer],
    sources: tuple[Layout, ...],
    target: Buffer,
    y: Layout,
    pixel: tuple[Expr, Expr, Expr],
) -> None:
    first = 0
    for buffer, x in zip(buffers, sources, strict=True):
        with T.serial(0, x.channels) as c:
            store(target, _place(y, *pixel, c + first), buffer[_place(x, *pixel, c)], 1)
        first += x.channels


def _pad(x: Layout, y: Layout, padding: Padding, zero_point: int) -> PrimFunc:
    def body(x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(y.width, y.channels) as (column, c):
                h, w = row - padding.top, column - padding.left
                inside = T.And(T.And(h >= 0, h < x.height), T.And(w >= 0, w < x.width))
                code = T.if_then_else(
                    inside, source[_place(x, image, h, w, c)], T.uint8(zero_point)
                )
                store(target, _place(y, image, row, column, c), code, 1)

    return c_function((("x", "uint8"), ("y", "uint8")), body)


def _place(layout: Layout, image: Expr, row: Expr, column: Expr, channel: Expr) -> Expr:
    pixel = image * layout.image + row * layout.row + column * layout.stored
    return layout.origin + pixel + channel
