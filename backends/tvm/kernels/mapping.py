"""Functions of one code: tables, and requantized copies.

A requantized copy computes ``round_half_even(real(x) / s_y)`` with two roundings, in the product
``(x - z_x) * s_x`` and in the quotient. Over the 256 codes that exist this mostly equals
``round_half_even((x - z_x) * m)`` with one factor m near s_x / s_y, which is tried on all of them;
where none fits, a table maps code by code.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.add import row_start
from gmpq.backends.tvm.kernels.base import Call, Candidate, Family, Site
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
    splat,
    store,
    to_codes,
    view,
)
from gmpq.ir import Lookup, QParams, Requantize
from gmpq.numerics import Codes, dequantize, quantize, requantize

CODES = np.arange(256, dtype=np.uint8)
PERMUTED = 64  # codes of one AVX-512 VBMI permutation


# --- requantized copies --------------------------------------------------------------------------


def exact_factor(qx: QParams, qy: QParams) -> np.float32 | None:
    """Return a factor that requantizes every code as the definition does, or None."""
    expected = _requantized(qx, qy)
    steps = CODES.astype(np.int32) - qx.zero_point
    middle = np.float32(qx.scale) / np.float32(qy.scale)
    for factor in (middle, *(np.nextafter(middle, np.float32(end)) for end in (0, 1e9))):
        found = requantize(steps, np.array(factor), qy.zero_point, qy.low, qy.high)
        if np.array_equal(expected, found):
            return np.float32(factor)
    return None


def _requantized(qx: QParams, qy: QParams) -> Codes:
    real = dequantize(CODES, qx.scale, qx.zero_point)
    return quantize(real, qy.scale, qy.zero_point, qy.low, qy.high)


def _refuses_copy(site: Site) -> str | None:
    factor = exact_factor(site.inputs[0].q, site.output.q)
    return None if factor is not None else "no single factor maps all 256 codes exactly"


def _copy_candidates(site: Site) -> tuple[Candidate, ...]:
    y = site.output.codes
    return (Candidate("", y.size_bytes / VECTOR * 4, partial(build_copy, site)),)


def build_copy(site: Site) -> Call:
    """Return the call that multiplies every code by the exact factor."""
    (x,), y = site.inputs, site.output
    factor = exact_factor(x.q, y.q)
    assert factor is not None
    return Call(_copy(x.codes, y.codes, x.q, y.q, float(factor)), (x.value.name,), (), y.value.name)


COPY = Family("copy", (Requantize,), _copy_candidates, _refuses_copy)


def _copy(x: Layout, y: Layout, qx: QParams, qy: QParams, factor: float) -> PrimFunc:
    def body(x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.serial(0, y.width * y.stored // VECTOR) as v:
                codes = load(source, row_start(x, image, row) + v * VECTOR, VECTOR)
                centred = cast("int32", VECTOR, codes) - splat(T.int32(qx.zero_point), VECTOR)
                steps = cast("float32", VECTOR, centred) * splat(T.float32(factor), VECTOR)
                result = to_codes(steps, qy, VECTOR)
                store(target, row_start(y, image, row) + v * VECTOR, result, VECTOR)

    return c_function((("x", "uint8"), ("y", "uint8")), body)


# --- tables --------------------------------------------------------------------------------------


def _table_candidates(site: Site) -> tuple[Candidate, ...]:
    y = site.output.codes
    found = [Candidate("code by code", 1.5 * y.size_bytes, partial(build_table, site))]
    row = y.width * y.stored
    if "avx512vbmi" in site.target.features and _table(site).ndim == 1 and row >= PERMUTED:
        cycles = y.size_bytes / PERMUTED * 4
        found.append(Candidate("permutation", cycles, partial(build_permutation, site)))
    return tuple(sorted(found, key=lambda candidate: candidate.cycles))


def build_table(site: Site) -> Call:
    """Return the call that maps every code through a table, [256] or [stored channels, 256]."""
    (x,) = site.inputs
    table = _table(site)
    if table.ndim == 2:
        table = np.pad(table, ((0, x.codes.stored - len(table)), (0, 0)))
    function = _look_up(x.codes, site.output.codes, per_channel=table.ndim == 2)
    return Call(function, (x.value.name,), (table,), site.output.value.name)


def build_permutation(site: Site) -> Call:
    """Return the call that maps 64 codes at once by two permutations of 128 bytes."""
    (x,) = site.inputs
    function = _permute(x.codes, site.output.codes)
    return Call(function, (x.value.name,), (_table(site),), site.output.value.name)


TABLE = Family("table", (Lookup, Requantize), _table_candidates)


def _table(site: Site) -> Codes:
    if isinstance(site.node, Lookup):
        return site.node.table
    return _requantized(site.inputs[0].q, site.output.q)


def _look_up(x: Layout, y: Layout, *, per_channel: bool) -> PrimFunc:
    def body(x_: Expr, table_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        table = view(table_, "uint8", 256 * (x.stored if per_channel else 1))
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.grid(y.width, y.channels) as (column, c):
                code = cast("int32", 1, source[row_start(x, image, row) + column * x.stored + c])
                entry = table[c * 256 + code if per_channel else code]
                store(target, row_start(y, image, row) + column * y.stored + c, entry, 1)

    return c_function((("x", "uint8"), ("table", "uint8"), ("y", "uint8")), body)


def _permute(x: Layout, y: Layout) -> PrimFunc:
    def body(x_: Expr, table_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        table = view(table_, "int8", 256)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            quarters = registers(4, "int8x64")
            for i, quarter in enumerate(quarters):
                put(quarter, load(table, i * PERMUTED, PERMUTED))
            width = y.width * y.stored
            with T.serial(0, -(-width // PERMUTED)) as v:
                place = inwards(v, PERMUTED, width)
                codes = load(source, row_start(x, image, row) + place, PERMUTED)
                store(target, row_start(y, image, row) + place, _entries(codes, quarters), PERMUTED)

    return c_function((("x", "uint8"), ("table", "int8"), ("y", "uint8")), body)


def _entries(codes: Expr, quarters: list[Buffer]) -> Expr:
    """Return the table's entries: VPERMI2B takes the low seven bits, a comparison the eighth."""
    index = T.reinterpret("int8x64", codes)
    halves = [
        pure("llvm.x86.avx512.vpermi2var.qi.512", "int8x64", low[0], index, high[0])
        for low, high in (quarters[:2], quarters[2:])
    ]
    upper = codes >= splat(T.uint8(128), PERMUTED)
    return T.reinterpret("uint8x64", T.Select(upper, halves[1], halves[0]))
