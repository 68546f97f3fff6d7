"""Functions of one code: tables, and requantized copies.

Where ``requantized_copy`` finds no factor for a copy, a table maps code by code.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.elementwise.add import row_start
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER
from gmpq.backends.tvm.kernels.cpu.epilogue.requantized_copy import RequantizedCopy
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    c_function,
    call_intrinsic,
    cast,
    clamped_start,
    in_registers,
    load,
    registers,
    splat,
    store,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.cpu.isa.x86 import vpmaddubsw_lanes
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.kernels.requant import requantized
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Lookup, Requantize
from gmpq.numerics import Codes

PERMUTED = 64  # codes of one AVX-512 VBMI permutation


# --- requantized copies --------------------------------------------------------------------------


def _copy_of(site: Site) -> RequantizedCopy | None:
    return RequantizedCopy.between(site.inputs[0].q, site.output.q)


def _refuses_copy(site: Site) -> str | None:
    return None if _copy_of(site) is not None else "no single factor maps all 256 codes exactly"


def _copy_candidates(site: Site) -> tuple[Candidate, ...]:
    y = site.output.codes
    return (Candidate("", y.size_bytes / VECTOR * 4, partial(build_copy, site)),)


def build_copy(site: Site) -> Call:
    """Return the call that requantizes vector by vector."""
    (x,), y, copy = site.inputs, site.output, _copy_of(site)
    assert copy is not None
    whole = TOGETHER * (vpmaddubsw_lanes(site.target) or 0)
    fits = copy.fixed_point is not None and VECTOR < whole <= y.codes.width * y.codes.stored
    return site.call(_copy(x.codes, y.codes, copy, whole if fits else VECTOR))


COPY = Family("copy", (Requantize,), _copy_candidates, _refuses_copy)


def _copy(x: Layout, y: Layout, copy: RequantizedCopy, size: int) -> PrimFunc:
    width = y.width * y.stored

    def body(x_: Expr, y_: Expr) -> None:
        source, target = view(x_, "uint8", x.size_bytes), view(y_, "uint8", y.size_bytes)
        with T.parallel(0, y.batch * y.height) as item:
            image, row = item // y.height, item % y.height
            with T.serial(0, -(-width // size)) as v:
                place = clamped_start(v, size, width)
                (codes,) = in_registers([load(source, row_start(x, image, row) + place, size)])
                store(target, row_start(y, image, row) + place, copy.codes(codes, size), size)

    return c_function((("x", "uint8"), ("y", "uint8")), body)


# --- tables --------------------------------------------------------------------------------------


def _table_candidates(site: Site) -> tuple[Candidate, ...]:
    y = site.output.codes
    found = [Candidate("code by code", 1.5 * y.size_bytes, partial(build_table, site))]
    row = y.width * y.stored
    if "avx512vbmi" in site.target.features and _table(site).ndim == 1 and row >= PERMUTED:
        cycles = y.size_bytes / PERMUTED * 4
        found.append(Candidate("permutation", cycles, partial(build_permutation, site)))
    return tuple(sorted(found, key=lambda candidate: candidate.cost))


def build_table(site: Site) -> Call:
    """Return the call that maps every code through a table, [256] or [stored channels, 256]."""
    (x,) = site.inputs
    table = _table(site)
    if table.ndim == 2:
        table = np.pad(table, ((0, x.codes.stored - len(table)), (0, 0)))
    function = _look_up(x.codes, site.output.codes, per_channel=table.ndim == 2)
    return site.call(function, (table,))


def build_permutation(site: Site) -> Call:
    """Return the call that maps 64 codes at once by two permutations of 128 bytes."""
    (x,) = site.inputs
    function = _permute(x.codes, site.output.codes)
    return site.call(function, (_table(site),))


TABLE = Family("table", (Lookup, Requantize), _table_candidates)


def _table(site: Site) -> Codes:
    if isinstance(site.node, Lookup):
        return site.node.table
    return requantized(site.inputs[0].q, site.output.q)


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
                assign(quarter, load(table, i * PERMUTED, PERMUTED))
            width = y.width * y.stored
            with T.serial(0, -(-width // PERMUTED)) as v:
                place = clamped_start(v, PERMUTED, width)
                codes = load(source, row_start(x, image, row) + place, PERMUTED)
                store(target, row_start(y, image, row) + place, _entries(codes, quarters), PERMUTED)

    return c_function((("x", "uint8"), ("table", "int8"), ("y", "uint8")), body)


def _entries(codes: Expr, quarters: list[Buffer]) -> Expr:
    """Return the table's entries: VPERMI2B takes the low seven bits, a comparison the eighth."""
    index = T.reinterpret("int8x64", codes)
    halves = [
        call_intrinsic("llvm.x86.avx512.vpermi2var.qi.512", "int8x64", low[0], index, high[0])
        for low, high in (quarters[:2], quarters[2:])
    ]
    upper = codes >= splat(T.uint8(128), PERMUTED)
    return T.reinterpret("uint8x64", T.Select(upper, halves[1], halves[0]))
