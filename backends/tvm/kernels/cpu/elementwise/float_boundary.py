"""Where a network meets real numbers: quantization, dequantization, softmax; and the halo.

Real tensors are float32 in their logical order [N, C, H, W] or [N, C].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Family, Tensor, only
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    cast,
    clamped_start,
    in_registers,
    load,
    registers,
    splat,
    store,
    to_codes,
    vector,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout, spatial
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR
from gmpq.ir import Dequantize, QParams, Quantize, Shape, Softmax


def build_quantize(site: Site) -> Call:
    """Return the call that quantizes a float32 image."""
    return site.call(_quantize(site.output.codes, site.output.q))


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


def halo_call(tensor: Tensor) -> Call | None:
    """Return the call that fills a value's halo with its zero point; None if it has no halo."""
    layout = tensor.codes
    if not any(layout.halo):
        return None
    return Call(_fill_halo(layout, tensor.q.zero_point), (), (), (tensor.value.name,))


def _quantize(y: Layout, q: QParams) -> PrimFunc:
    if y.height == y.width == 1:
        return _quantize_channels(y, q)
    lanes = min(VECTOR, y.width)
    elements = y.batch * y.channels * y.height * y.width
    kind, write = ("uint8", _write_dense) if y.stored % GROUP else ("int32", _write_groups)

    def body(x_: Expr, y_: Expr) -> None:
        source = view(x_, "float32", elements)
        target = view(y_, kind, y.size_bytes // (GROUP if kind == "int32" else 1))
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.serial(0, -(-y.width // lanes)) as tile:
                column = clamped_start(tile, lanes, y.width)
                start = y.origin + image * y.image + row * y.row + column * y.stored
                group = partial(_group, source, y, q, (image, row, column), lanes)
                write(target, y, start, lanes, group)

    return c_function((("x", "float32"), ("y", kind)), body)


def _quantize_channels(y: Layout, q: QParams) -> PrimFunc:
    """Write images of one pixel, whose channels lie together on both sides."""
    lanes = min(VECTOR, y.channels)
    tiles = -(-y.channels // lanes)

    def body(x_: Expr, y_: Expr) -> None:
        source = view(x_, "float32", y.batch * y.channels)
        target = view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * tiles) as item:
            image, channel = item // tiles, clamped_start(item % tiles, lanes, y.channels)
            reals = load(source, image * y.channels + channel, lanes)
            codes = to_codes(reals / splat(T.float32(q.scale), lanes), q, lanes)
            store(target, y.origin + image * y.image + channel, codes, lanes)

    return c_function((("x", "float32"), ("y", "uint8")), body)


GroupOfCodes: TypeAlias = Callable[[Expr, int], Expr]  # by number, its channels


def _write_groups(y_: Buffer, y: Layout, start: Expr, lanes: int, group: GroupOfCodes) -> None:
    """Store ``lanes`` pixels in groups of four channels."""
    place = T.floordiv(start, GROUP)
    whole, rest = divmod(y.channels, GROUP)
    with T.serial(0, whole) as number:
        store(y_, place + number, group(number, GROUP), lanes, y.stored // GROUP)
    if rest:
        store(y_, place + whole, group(whole, rest), lanes, y.stored // GROUP)


def _write_dense(y_: Buffer, y: Layout, start: Expr, lanes: int, group: GroupOfCodes) -> None:
    """Store ``lanes`` pixels of fewer than four channels without padding."""
    codes = T.reinterpret(vector("uint8", GROUP * lanes), group(0, y.channels))
    kept = [pixel * GROUP + channel for pixel in range(lanes) for channel in range(y.channels)]
    store(y_, start, T.Shuffle([codes], kept), len(kept))


def _group(
    source: Buffer,
    y: Layout,
    q: QParams,
    place: tuple[Expr, Expr, Expr],
    lanes: int,
    group: Expr,
    channels: int,
) -> Expr:
    """Return the codes of up to four channels of ``lanes`` pixels, one int32 per pixel."""
    image, row, column = place
    packed = registers(1, vector("int32", lanes))[0]
    assign(packed, splat(T.int32(0), lanes))
    for byte in range(channels):
        channel = group * GROUP + byte
        start = ((image * y.channels + channel) * y.height + row) * y.width + column
        steps = load(source, start, lanes) / splat(T.float32(q.scale), lanes)
        codes = to_codes(steps, q, lanes)
        shifted = T.shift_left(cast("int32", lanes, codes), splat(T.int32(8 * byte), lanes))
        assign(packed, T.bitwise_or(packed[0], shifted))
    return packed[0]


def _dequantize(x: Layout, q: QParams) -> PrimFunc:
    dense = x.height == x.width == 1
    write = _channels_to_reals if dense else _rows_to_reals

    def body(x_: Expr, y_: Expr) -> None:
        write(x_, view(y_, "float32", x.batch * x.channels * x.height * x.width), x, q)

    return c_function((("x", "uint8" if dense else "int32"), ("y", "float32")), body)


def _channels_to_reals(x_: Expr, target: Buffer, x: Layout, q: QParams) -> None:
    """Write images of one pixel, whose channels lie together on both sides."""
    source, lanes = view(x_, "uint8", x.size_bytes), min(VECTOR, x.channels)
    tiles = -(-x.channels // lanes)
    with T.parallel(0, x.batch * tiles) as item:
        image, channel = item // tiles, clamped_start(item % tiles, lanes, x.channels)
        codes = cast("int32", lanes, load(source, x.origin + image * x.image + channel, lanes))
        store(target, image * x.channels + channel, _reals(codes, q, lanes), lanes)


def _rows_to_reals(x_: Expr, target: Buffer, x: Layout, q: QParams) -> None:
    """Write rows of every channel; a word holds four channels of a pixel."""
    source, lanes = view(x_, "int32", x.size_bytes // GROUP), min(VECTOR, x.width)

    def group(item: Expr, column: Expr, number: Expr, channels: int) -> None:
        image, row = item // x.height, item % x.height
        start = x.origin + image * x.image + row * x.row + column * x.stored
        place, step = T.floordiv(start, GROUP) + number, x.stored // GROUP
        (words,) = in_registers([load(source, place, lanes, step)])
        for byte in range(channels):
            written = image * x.channels + number * GROUP + byte
            reals = _reals(_byte(words, byte, lanes), q, lanes)
            store(target, (written * x.height + row) * x.width + column, reals, lanes)

    whole, rest = divmod(x.channels, GROUP)
    with T.parallel(0, x.batch * x.height) as item, T.serial(0, -(-x.width // lanes)) as tile:
        column = clamped_start(tile, lanes, x.width)
        with T.serial(0, whole) as number:
            group(item, column, number, GROUP)
        if rest:
            group(item, column, whole, rest)


def _byte(words: Expr, byte: int, lanes: int) -> Expr:
    """Return one byte of each word."""
    shifted = T.shift_right(words, splat(T.int32(8 * byte), lanes))
    return T.bitwise_and(shifted, splat(T.int32(255), lanes))


def _reals(codes: Expr, q: QParams, lanes: int) -> Expr:
    """Return the float32 values of int32 codes."""
    centred = codes - splat(T.int32(q.zero_point), lanes)
    return cast("float32", lanes, centred) * splat(T.float32(q.scale), lanes)


def _softmax(shape: Shape) -> PrimFunc:
    batch, channels, height, width = spatial(shape)
    pixels = height * width
    lanes = min(VECTOR, pixels)
    tiles = -(-pixels // lanes)

    def body(x_: Expr, y_: Expr) -> None:
        x = view(x_, "float32", batch * channels * pixels)
        y = view(y_, "float32", batch * channels * pixels)
        with T.parallel(0, batch * tiles) as item:
            pixel = clamped_start(item % tiles, lanes, pixels)
            first = item // tiles * channels * pixels + pixel
            largest, total = registers(2, vector("float32", lanes))
            assign(largest, load(x, first, lanes))
            assign(total, splat(T.float32(0), lanes))
            with T.serial(0, channels) as c:
                assign(largest, T.max(largest[0], load(x, first + c * pixels, lanes)))
            with T.serial(0, channels) as c:
                power = T.exp(load(x, first + c * pixels, lanes) - largest[0])
                assign(total, total[0] + power)
                store(y, first + c * pixels, power, lanes)
            with T.serial(0, channels) as c:
                place = first + c * pixels
                store(y, place, load(y, place, lanes) / total[0], lanes)

    return c_function((("x", "float32"), ("y", "float32")), body)


def _fill_halo(layout: Layout, zero_point: int) -> PrimFunc:
    halo, fill = layout.halo, T.uint8(zero_point)
    top, bottom = layout.origin - halo.left * layout.stored, halo.bottom * layout.row

    def body(y_: Expr) -> None:
        y = view(y_, "uint8", layout.size_bytes)
        with T.serial(0, layout.batch) as image:
            with T.serial(0, top) as i:
                store(y, image * layout.image + i, fill, 1)
            with T.serial(0, bottom) as i:
                store(y, image * layout.image + layout.image - bottom + i, fill, 1)
            with T.serial(0, layout.height) as row:
                start = image * layout.image + top + row * layout.row
                with T.serial(0, halo.left * layout.stored) as i:
                    store(y, start + i, fill, 1)
                with T.serial(0, halo.right * layout.stored) as i:
                    store(y, start + layout.row - halo.right * layout.stored + i, fill, 1)

    return c_function((("y", "uint8"),), body)
