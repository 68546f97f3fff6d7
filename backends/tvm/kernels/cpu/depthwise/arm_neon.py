"""Depthwise convolution on NEON: fewer bits, fewer widenings.

Sixteen channels of a pixel are a vector, and each tap multiplies it by one of weights. As in
``neon_sums``, products are added in the narrowest lanes that provably hold them: in int8 over runs
of taps (Arm ARM, MLA), in int16 over longer runs (SMLAL), and then in int32. A lane is one channel
here, so that its bounds over some taps are the sums of min(low * w, high * w) and of max(low * w,
high * w). Runs are cut greedily, each as long as all channels allow. Codes beyond 127 are
multiplied less 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.depthwise import loops
from gmpq.backends.tvm.kernels.cpu.depthwise.loops import (
    ChannelSums,
    ChannelTile,
    constants,
    kernel,
    tile_columns,
)
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    cast,
    in_registers,
    zeros,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Conv2d

TapRun: TypeAlias = tuple[int, ...]  # taps whose products are added in int8, or one alone
Cut: TypeAlias = tuple[tuple[TapRun, ...], ...]  # what is added in int16


def refuses(site: Site) -> str | None:
    """Return why the site is no depthwise convolution for NEON."""
    if neon.word_bits(site.target) is None:
        return "needs NEON"
    return loops.refuses(site)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the one configuration; cycles are instructions, one a cycle."""
    y, cut = site.output.codes, _cut(site)
    taps = sum(len(run) if len(run) > 1 else 2 for int16_run in cut for run in int16_run)
    widened = sum(2 + 2 * sum(len(run) > 1 for run in int16_run) for int16_run in cut)
    cycles = y.batch * y.height * y.width * y.stored // VECTOR * (1.2 * taps + 2 * widened + 12)
    longest = max(len(run) for int16_run in cut for run in int16_run)
    within = f", {longest} in int8" if longest > 1 else ""
    name = f"{max(sum(map(len, int16_run)) for int16_run in cut)} taps in int16{within}"
    instruction = "mla" if longest > 1 else "smull+smlal"
    return (Candidate(name, cycles, partial(build, site, cut), site.work(instruction)),)


FAMILY = Family("depthwise_neon", (Conv2d,), candidates, refuses)


def build(site: Site, cut: Cut) -> Call:
    """Return the call of a depthwise convolution."""
    low, _ = neon.code_range(site.inputs[0].q)
    columns = tile_columns(site.output.codes.width, 6 if len(cut) == 1 else 4)
    sums = ChannelSums(columns, "int8", partial(_accumulate, cut, low < 0))
    return site.call(kernel(site, sums), constants(site, sums, -low))


def _cut(site: Site) -> Cut:
    assert isinstance(site.node, Conv2d)
    codes = site.node.weight.codes
    taps = codes.reshape(len(codes), -1).T
    code_range = neon.code_range(site.inputs[0].q)
    return tuple(
        _runs(taps, int16_run, code_range)
        for int16_run in runs(taps, code_range, range(len(taps)), np.int16)
    )


def _runs(taps: Array, int16_run: TapRun, code_range: tuple[int, int]) -> tuple[TapRun, ...]:
    """Return the runs in int8 within one in int16; runs of two cost as much as single taps."""
    found = runs(taps, code_range, int16_run, np.int8)
    return found if len(found) * 2 < len(int16_run) else tuple((tap,) for tap in int16_run)


def runs(
    taps: Array, code_range: tuple[int, int], which: Sequence[int], kind: type
) -> tuple[TapRun, ...]:
    """Return ``which`` of int8 ``taps`` [taps, C], in the longest runs whose sums fit ``kind``.

    A tap that does not fit by itself is a separate run.
    """
    limits = np.iinfo(kind)
    found: list[list[int]] = []
    products = [code * taps.astype(np.int32) for code in code_range]
    bounds = np.stack([np.minimum(*products), np.maximum(*products)])
    total = np.zeros_like(bounds[:, 0])
    for tap in which:
        total = total + bounds[:, tap]
        if not found or total[0].min() < limits.min or total[1].max() > limits.max:
            found.append([tap])
            total = bounds[:, tap]
        else:
            found[-1].append(tap)
    return tuple(tuple(run) for run in found)


# --- the code ------------------------------------------------------------------------------------


def _accumulate(cut: Cut, shifted: bool, acc: list[Buffer], tile: ChannelTile) -> None:
    if len(cut) > 1:
        tile.begin(acc)
    for int16_run in cut:
        short = zeros(len(acc), "int16", VECTOR)
        for run in int16_run:
            _add_run(short, run, shifted, tile)
        if len(cut) == 1:
            tile.begin(acc)  # they need no registers before
        for slot, sums in zip(acc, short, strict=True):
            assign(slot, slot[0] + cast("int32", VECTOR, sums[0]))


def _add_run(acc: list[Buffer], run: TapRun, shifted: bool, tile: ChannelTile) -> None:
    kind = "int16" if len(run) == 1 else "int8"
    short = acc if len(run) == 1 else zeros(len(acc), "int8", VECTOR)
    for tap in run:
        (weight,) = in_registers([tile.weight(tap)])
        for p, slot in enumerate(short):
            codes = T.reinterpret(f"int8x{VECTOR}", tile.codes(tap, p))
            codes = neon.signed(codes) if shifted else codes
            assign(slot, slot[0] + _as(kind, codes) * _as(kind, weight))
    if kind == "int8":
        for slot, sums in zip(acc, short, strict=True):
            assign(slot, slot[0] + cast("int16", VECTOR, sums[0]))


def _as(kind: str, codes: Expr) -> Expr:
    return codes if kind == "int8" else cast(kind, VECTOR, codes)
