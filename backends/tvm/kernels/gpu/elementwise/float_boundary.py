"""Where a network meets real numbers: quantization, dequantization, softmax.

Real tensors are float32 in their logical order [N, C, H, W] or [N, C].
"""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, only
from gmpq.backends.tvm.kernels.gpu.elementwise.words import pixel_start, place_of, words_of
from gmpq.backends.tvm.kernels.gpu.isa import instructions
from gmpq.backends.tvm.kernels.gpu.isa.borders import Border, borders_of
from gmpq.backends.tvm.kernels.gpu.isa.builder import (
    WORD,
    Expr,
    item_kernel,
    local,
    register,
    store,
    value_of,
    view,
    word_of,
)
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout, spatial
from gmpq.ir import Dequantize, QParams, Quantize, Shape, Softmax


def build_quantize(site: Site) -> Call:
    """Return the call that quantizes a float32 image."""
    return site.call(_quantize(site.output.codes, site.output.q, borders_of(site)))


def build_dequantize(site: Site) -> Call:
    """Return the call that writes float32 values."""
    (x,) = site.inputs
    return site.call(_dequantize(x.codes, x.q))


def build_softmax(site: Site) -> Call:
    """Return the call of a float32 softmax over the channels."""
    (x,) = site.inputs
    return site.call(_softmax(x.value.shape))


QUANTIZE = Family("quantize", (Quantize,), only(build_quantize))
DEQUANTIZE = Family("dequantize", (Dequantize,), only(build_dequantize))
SOFTMAX = Family("softmax", (Softmax,), only(build_softmax))


def in_order_call(site: Site) -> Call:
    """Return the call that puts what a layer has written in its logical order."""
    x = site.output
    return Call(_in_order(x.codes), (x.value.name,), (), (site.node.output,))


def _quantize(y: Layout, q: QParams, borders: tuple[Border, ...]) -> PrimFunc:
    name, source = instructions.quantized(q)

    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        reals = view(x_, "float32", y.batch * y.channels * y.height * y.width)
        target = view(y_, "uint32", y.size_bytes // WORD)
        place, codes = place_of(item, y), local(WORD, "int32")
        for byte in range(WORD):
            channel = register(place.word * WORD + byte)
            store(codes, byte, T.int32(0))
            with T.If(channel < y.channels), T.Then():
                row = ((place.image * y.channels + channel) * y.height + place.row) * y.width
                real, scale = reals[row + place.column], T.float32(q.scale)
                steps = value_of("quotient", "float32", real, scale, source=instructions.QUOTIENT)
                store(codes, byte, value_of(name, "int32", steps, source=source))
        store(target, place.in_words(y), word_of([codes[i] for i in range(WORD)]))

    return item_kernel((("x", "float32"), ("y", "uint32")), words_of(y), body, borders)


def _logical(item: Expr, x: Layout) -> Expr:
    """Return where element ``item`` of the order [N, C, H, W] lies."""
    column, rest = item % x.width, item // x.width
    row, planes = rest % x.height, rest // x.height
    return pixel_start(x, planes // x.channels, row, column) + planes % x.channels


def _dequantize(x: Layout, q: QParams) -> PrimFunc:
    elements = x.batch * x.channels * x.height * x.width

    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "float32", elements)
        centred = T.Cast("int32", source[_logical(item, x)]) - T.int32(q.zero_point)
        real = value_of(
            *("rescaled", "float32", centred, T.float32(q.scale)), source=instructions.PRODUCT
        )
        store(target, item, real)

    return item_kernel((("x", "uint8"), ("y", "float32")), elements, body)


def _in_order(x: Layout) -> PrimFunc:
    elements = x.batch * x.channels * x.height * x.width

    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "float32", x.size), view(y_, "float32", elements)
        store(target, item, source[_logical(item, x)])

    return item_kernel((("x", "float32"), ("y", "float32")), elements, body)


def _softmax(shape: Shape) -> PrimFunc:
    batch, channels, height, width = spatial(shape)
    pixels = height * width

    def body(item: Expr, x_: Expr, y_: Expr) -> None:
        x = view(x_, "float32", batch * channels * pixels)
        y = view(y_, "float32", batch * channels * pixels)
        first = register(item // pixels * channels * pixels + item % pixels)
        largest, total = local(1, "float32"), local(1, "float32")
        store(largest, 0, x[first])
        store(total, 0, T.float32(0))
        with T.serial(0, channels, unroll=False) as c:
            store(largest, 0, T.max(largest[0], x[first + c * pixels]))
        with T.serial(0, channels, unroll=False) as c:
            power = register(T.exp(x[first + c * pixels] - largest[0]), "float32")
            store(total, 0, total[0] + power)
            store(y, first + c * pixels, power)
        with T.serial(0, channels, unroll=False) as c:
            store(y, first + c * pixels, y[first + c * pixels] / total[0])

    return item_kernel((("x", "float32"), ("y", "float32")), batch * pixels, body)
