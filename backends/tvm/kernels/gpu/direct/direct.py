"""Convolution and fully connected layers, four outputs of one pixel per thread.

Codes are multiplied as they lie in memory, halo included, from starts ``bias - z * sum of w``.
Four codes and four weights are one ``dp4a``. Depthwise, one word has the codes of four outputs.
With other groups four outputs may read any inputs: then codes are multiplied one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.gpu.epilogue.epilogue import BoundEpilogue, Epilogue, constants_of
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
    weight_of,
)
from gmpq.backends.tvm.kernels.gpu.isa.layer import LayerShape, Pixel
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.ir import Conv2d, Linear

COST = 16.0  # of a product, where one on tensor cores costs 1


@dataclass(frozen=True, slots=True)
class Shape(LayerShape):
    """The sizes of a layer, and how its codes are read."""

    @property
    def depthwise(self) -> bool:
        """Whether every output reads the input of its number."""
        return self.groups == self.outputs and self.inputs == 1

    @property
    def by_words(self) -> bool:
        """Whether codes are read four at a time."""
        return self.groups == 1 or self.depthwise

    @property
    def words(self) -> int:
        """Words of inputs that a tap has without groups."""
        return self.x.stored // WORD


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the one configuration."""
    shape = Shape.of(site)
    work = site.work("dp4a" if shape.groups == 1 else "imad")
    return (Candidate("", COST * work.executed_macs, lambda: build(site), work),)


FAMILY = Family("direct", (Conv2d, Linear), candidates)


def build(site: Site) -> Call:
    """Return the call of the layer, with weights, starts and factors."""
    shape, epilogue = Shape.of(site), Epilogue.of(site)
    channels = -(-shape.outputs // WORD) * WORD
    assert isinstance(site.node, Conv2d | Linear)
    weights = packed(site.node.weight.codes, shape)
    function = _kernel(shape, epilogue, weights.size, borders_of(site))
    return site.call(function, (weights, *constants_of(site, channels)))


def packed(codes: NDArray[np.int8], shape: Shape) -> NDArray[np.int8]:
    """Return weights [O, I / groups, ...] as int8 [blocks, taps, words or inputs, outputs, codes].

    The last axis has the four codes of a word, or one code where the layer has groups.
    """
    outputs, inputs = codes.shape[:2]
    taps = codes.reshape(outputs, inputs, -1).transpose(0, 2, 1)  # [O, taps, I]
    size = WORD if shape.groups == 1 else 1
    width = shape.x.stored if shape.groups == 1 else inputs
    full = np.zeros((-(-outputs // WORD) * WORD, shape.taps, width), np.int8)
    full[:outputs, :, :inputs] = taps
    blocks = full.reshape(-1, WORD, shape.taps, width // size, size)
    return np.ascontiguousarray(blocks.transpose(0, 2, 3, 1, 4))


def _kernel(
    shape: Shape, epilogue: Epilogue, weights: int, borders: tuple[Border, ...]
) -> PrimFunc:
    blocks = -(-shape.outputs // WORD)
    dtype, weight = ("uint32", "uint32") if shape.by_words else ("uint8", "int8")
    size = WORD if shape.by_words else 1

    def body(item: Expr, x_: Expr, *pointers: Expr) -> None:
        (weights_, start_, factor_), results = epilogue.bind(pointers)
        start = view(start_, "int32", blocks * WORD)
        factor = view(factor_, "float32", blocks * WORD)
        block = register(item % blocks)
        pixel = shape.pixel(register(item // blocks))
        sums = local(WORD, "int32")
        for i in range(WORD):
            store(sums, i, start[block * WORD + i])
        first = register(shape.window_start(pixel))
        x = view(x_, dtype, shape.x.size_bytes // size)
        _add_products(shape, x, view(weights_, weight, weights // size), (first, block), sums)
        _finish(results, pixel, block, sums, factor)

    constants = (("w", weight), ("start", "int32"), ("factor", "float32"))
    parameters = epilogue.parameters(("x", dtype), constants)
    return item_kernel(parameters, shape.pixels * blocks, body, borders)


def _finish(
    results: BoundEpilogue,
    pixel: Pixel,
    block: Expr,
    sums: Buffer,
    factor: Buffer,
) -> None:
    factors = [register(factor[block * WORD + i], "float32") for i in range(WORD)]
    results.finish(pixel, block * WORD, [sums[i] for i in range(WORD)], factors)


def _add_products(
    shape: Shape, x: Buffer, weights: Buffer, place: tuple[Expr, Expr], sums: Buffer
) -> None:
    """Add all products under a window, from the place of its first code, for a block of outputs."""
    if shape.groups == 1:
        _words(shape, x, weights, place, sums)
    elif shape.depthwise:
        _depthwise(shape, x, weights, place, sums)
    else:
        _codes(shape, x, weights, place, sums)


def _depthwise(
    shape: Shape, x: Buffer, weights: Buffer, place: tuple[Expr, Expr], sums: Buffer
) -> None:
    """Add the products of four channels by their own weights."""
    first, block = place
    rows, columns = shape.window.kernel
    with T.serial(0, rows, unroll=False) as r, T.serial(0, columns, unroll=False) as s:
        codes = register(x[(first + shape.tap_offset(r, s)) // WORD + block], "uint32")
        four = register(weights[block * shape.taps + r * columns + s], "uint32")
        for i in range(WORD):
            store(sums, i, sums[i] + code_of(codes, i) * weight_of(four, i))


def _words(
    shape: Shape, x: Buffer, weights: Buffer, place: tuple[Expr, Expr], sums: Buffer
) -> None:
    """Add the products of all words of codes under a window."""
    first, block = place
    rows, columns = shape.window.kernel
    with T.serial(0, rows, unroll=False) as r, T.serial(0, columns, unroll=False) as s:
        start = register((first + shape.tap_offset(r, s)) // WORD)
        own = register((block * shape.taps + r * columns + s) * (shape.words * WORD))
        with T.serial(0, shape.words, unroll=False) as word:
            codes = register(x[start + word], "uint32")
            for i in range(WORD):
                weight = weights[own + word * WORD + i]
                total = value_of(
                    *("dp4a_u8s8", "int32", codes, weight, sums[i]), source=instructions.DP4A
                )
                store(sums, i, total)


def _codes(
    shape: Shape, x: Buffer, weights: Buffer, place: tuple[Expr, Expr], sums: Buffer
) -> None:
    """Add the products of all codes under a window, for outputs of any groups."""
    first, block = place
    rows, columns = shape.window.kernel
    per_group = shape.outputs // shape.groups
    with T.serial(0, rows, unroll=False) as r, T.serial(0, columns, unroll=False) as s:
        start = register(first + shape.tap_offset(r, s))
        own = register((block * shape.taps + r * columns + s) * (shape.inputs * WORD))
        with T.serial(0, shape.inputs, unroll=False) as channel:
            for i in range(WORD):
                output = T.min(block * WORD + i, T.int32(shape.outputs - 1))
                code = x[start + output // per_group * shape.inputs + channel]
                weight = weights[own + channel * WORD + i]
                product = T.Cast("int32", code) * T.Cast("int32", weight)
                store(sums, i, sums[i] + product)
