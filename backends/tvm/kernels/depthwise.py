"""Depthwise convolution: every channel has its own small kernel.

Sixteen channels of one pixel are widened to int32 lanes whose upper half is zero, and the weight of
a tap lies in the lower half, so that one vpdpwssd (or vpmaddwd and an addition) adds x * w exactly.
The accumulator starts at ``bias - z * sum of w``, as in ``direct``.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.dot import Portable, Words
from gmpq.backends.tvm.kernels.base import Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.layout import VECTOR, Layout
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    cast,
    inwards,
    load,
    pure,
    put,
    registers,
    store,
    to_codes,
    view,
)
from gmpq.backends.tvm.target import Target
from gmpq.ir import Conv2d, QParams, Window


def refuses(site: Site) -> str | None:
    """Return why the site is no depthwise convolution with one output per channel."""
    node = site.node
    assert isinstance(node, Conv2d)
    channels = site.inputs[0].codes.channels
    if node.groups == channels == site.output.codes.channels and channels > 1:
        return None
    return f"needs one group per channel, has {node.groups} groups of {channels} channels"


def build(site: Site) -> Call:
    """Return the call of a depthwise convolution."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    start, factor = start_and_factor(node.weight, x.q, y.q)
    padding = (0, y.codes.stored - y.codes.channels)
    weights = np.pad(node.weight.codes.reshape(y.codes.channels, -1), (padding, (0, 0)))
    constants = (
        np.ascontiguousarray(weights.T).astype(np.int32),
        np.pad(start, padding),
        np.pad(factor, padding),
    )
    function = kernel(x.codes, y.codes, node.window, y.q, site.target)
    return site.call(function, constants)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the one configuration; per output and tap, two loads and a product of 16 channels."""
    y, node = site.output.codes, site.node
    assert isinstance(node, Conv2d)
    vectors = y.batch * y.height * y.width * y.stored // VECTOR
    cycles = vectors * (node.window.kernel[0] * node.window.kernel[1] * 1.5 + 5)
    fused = "avx512vnni" in site.target.features
    instruction = Words(fused=True).instruction if fused else Portable.instruction
    return (Candidate("", cycles, partial(build, site), site.work(instruction)),)


FAMILY = Family("depthwise", (Conv2d,), candidates, refuses)


def kernel(x: Layout, y: Layout, window: Window, q: QParams, target: Target) -> PrimFunc:
    """Return ``f(x, weights [taps, C], start, factor, y)``."""
    columns = _columns(y.width, target.registers - 4)
    vectors = y.stored // VECTOR

    def body(x_: Expr, w_: Expr, start_: Expr, factor_: Expr, y_: Expr) -> None:
        source, result = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        weights = view(w_, "int32", window.kernel[0] * window.kernel[1] * y.stored)
        start, factor = view(start_, "int32", y.stored), view(factor_, "float32", y.stored)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(vectors, -(-y.width // columns)) as (v, tile):
                column = inwards(tile, columns, y.width)
                acc = registers(columns, "int32x16")
                for slot in acc:
                    put(slot, load(start, v * VECTOR, VECTOR))
                place = _corner(x, window, image, row, column) + v * VECTOR
                _accumulate(acc, source, weights, x, y, window, place, v, target)
                corner = y.origin + image * y.image + row * y.row + column * y.stored + v * VECTOR
                scale = load(factor, v * VECTOR, VECTOR)
                for p, slot in enumerate(acc):
                    steps = cast("float32", VECTOR, slot[0]) * scale
                    codes = to_codes(steps, q, VECTOR)
                    store(result, corner + p * y.stored, codes, VECTOR)

    names = (("x", "uint8"), ("w", "int32"), ("start", "int32"), ("factor", "float32"))
    return c_function((*names, ("y", "uint8")), body)


def _columns(width: int, registers_free: int) -> int:
    """Return the pixels of a tile: the fewest computed twice, then the most at once."""
    candidates = range(1, min(width, registers_free, 14) + 1)
    return min(candidates, key=lambda n: (-(-width // n) * (n + 2), -n))


def _corner(x: Layout, window: Window, image: Expr, row: Expr, column: Expr) -> Expr:
    first = x.origin - window.padding.top * x.row - window.padding.left * x.stored
    down, across = row * (window.stride[0] * x.row), column * (window.stride[1] * x.stored)
    return first + image * x.image + down + across


def _accumulate(
    acc: list[Buffer],
    source: Buffer,
    weights: Buffer,
    x: Layout,
    y: Layout,
    window: Window,
    place: Expr,
    v: Expr,
    target: Target,
) -> None:
    (dy, dx), step = window.dilation, window.stride[1] * x.stored
    for tap, (r, s) in enumerate(product(*map(range, window.kernel))):
        weight = registers(1, "int32x16")[0]
        put(weight, load(weights, tap * y.stored + v * VECTOR, VECTOR))
        for p, slot in enumerate(acc):
            codes = load(source, place + r * dy * x.row + s * dx * x.stored + p * step, VECTOR)
            put(slot, _add_product(slot[0], cast("int32", VECTOR, codes), weight[0], target))


def _add_product(acc: Expr, codes: Expr, weight: Expr, target: Target) -> Expr:
    if "avx512vnni" in target.features:
        pairs = [T.reinterpret("int16x32", operand) for operand in (codes, weight)]
        return pure("llvm.x86.avx512.vpdpwssd.512", "int32x16", acc, *pairs)
    return acc + codes * weight
