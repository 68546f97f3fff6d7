"""Float32 values before a network's outputs: they move, and keep their bits.

They lie densely in their logical order, [N, C, H, W] or [N, C]. A layer writes its own channels
last, as it does codes, and a second call of its step puts them in order.
"""

from __future__ import annotations

from math import prod

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, c_function, store, view
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Concat, Reshape, Shape


def in_order_call(site: Site) -> Call:
    """Return the call that puts what a layer has written in its logical order."""
    x = site.output
    return Call(_in_order(x.codes), (x.value.name,), (), (site.node.output,))


def build(site: Site) -> Call:
    """Return the call that joins float32 values; a reshaped one is joined with nothing."""
    return site.call(_concat([tensor.value.shape for tensor in site.inputs]))


def refuses(site: Site) -> str | None:
    """Return why there is no float32 to move."""
    return None if site.output.value.q is None else "moves float32, not codes"


FAMILY = Family("reals", (Concat, Reshape), only(build), refuses)


def _in_order(x: Layout) -> PrimFunc:
    """Return ``f(x, y)``; a block of channels is read as one line, and written as many rows."""

    def body(x_: Expr, y_: Expr) -> None:
        source = view(x_, "float32", x.size)
        target = view(y_, "float32", x.batch * x.channels * x.height * x.width)
        whole, rest = divmod(x.channels, VECTOR)
        with T.parallel(0, x.batch * x.height) as item:
            image, row = item // x.height, item % x.height

            def block(first: Expr, channels: int) -> None:
                with T.grid(x.width, channels) as (column, c):
                    read = x.origin + image * x.image + row * x.row + column * x.stored + first + c
                    written = ((image * x.channels + first + c) * x.height + row) * x.width + column
                    store(target, written, source[read], 1)

            with T.serial(0, whole) as number:
                block(number * VECTOR, VECTOR)
            if rest:
                block(whole * VECTOR, rest)

    return c_function((("x", "float32"), ("y", "float32")), body)


def _concat(shapes: list[Shape]) -> PrimFunc:
    """Return ``f(x0, x1, ..., y)``, which copies image by image."""
    batch, sizes = shapes[0][0], [prod(shape[1:]) for shape in shapes]

    def body(*pointers: Expr) -> None:
        *inputs, output = pointers
        target = view(output, "float32", batch * sum(sizes))
        sources = [view(p, "float32", batch * n) for p, n in zip(inputs, sizes, strict=True)]
        with T.parallel(0, batch) as image:
            first = 0
            for source, size in zip(sources, sizes, strict=True):
                with T.serial(0, size) as i:
                    place = image * sum(sizes) + first + i
                    store(target, place, source[image * size + i], 1)
                first += size

    names = [(f"x{i}", "float32") for i in range(len(shapes))]
    return c_function((*names, ("y", "float32")), body)
