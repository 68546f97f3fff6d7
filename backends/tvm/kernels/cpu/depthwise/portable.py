"""Depthwise convolution on any processor: every channel has its own small kernel.

Sixteen channels of one pixel are widened to int32 lanes whose upper half is zero, and the weight of
a tap lies in the lower half, so that one vpdpwssd (or vpmaddwd and an addition) adds x * w exactly.
The accumulator starts at ``bias - z * sum of w``, as in ``direct``.
"""

from __future__ import annotations

from functools import partial

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.depthwise.loops import (
    ChannelSums,
    ChannelTile,
    constants,
    kernel,
    refuses,
    tile_columns,
)
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    call_intrinsic,
    cast,
    in_registers,
)
from gmpq.backends.tvm.kernels.cpu.isa.dot import Int32Dot
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, vpmaddubsw_lanes
from gmpq.backends.tvm.target.cpu import VECTOR, CpuTarget
from gmpq.ir import Conv2d

MOST_COLUMNS = 14


def build(site: Site) -> Call:
    """Return the call of a depthwise convolution."""
    y, target = site.output.codes, site.target
    columns = tile_columns(y.width, min(target.vector_registers - 4, MOST_COLUMNS))
    sums = ChannelSums(columns, "int32", partial(_accumulate, target))
    return site.call(kernel(site, sums), constants(site, sums))


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the one configuration; per output and tap, two loads and a product of 16 channels."""
    y, node = site.output.codes, site.node
    assert isinstance(node, Conv2d)
    vectors = y.batch * y.height * y.width * y.stored // VECTOR
    taps = node.window.kernel[0] * node.window.kernel[1]
    cycles = vectors * (taps * _tap_cycles(site.target) + 5)
    fused = "avx512vnni" in site.target.features
    instruction = Int16Dot(fused=True).instruction if fused else Int32Dot.instruction
    return (Candidate("", cycles, partial(build, site), site.work(instruction)),)


def _tap_cycles(target: CpuTarget) -> float:
    """Return the cycles of a tap of 16 channels; without dot products they are widened twice."""
    if "avx512vnni" in target.features:
        return 1.5
    lanes = vpmaddubsw_lanes(target)
    return 8.0 if lanes is None else 30 / lanes


FAMILY = Family("depthwise", (Conv2d,), candidates, refuses)


def _accumulate(target: CpuTarget, acc: list[Buffer], tile: ChannelTile) -> None:
    tile.begin(acc)
    for tap in range(len(tile.taps)):
        (weight,) = in_registers([tile.weight(tap)])
        for p, slot in enumerate(acc):
            codes = cast("int32", VECTOR, tile.codes(tap, p))
            assign(slot, _add_product(slot[0], codes, weight, target))


def _add_product(acc: Expr, codes: Expr, weight: Expr, target: CpuTarget) -> Expr:
    if "avx512vnni" in target.features:
        pairs = [T.reinterpret("int16x32", operand) for operand in (codes, weight)]
        return call_intrinsic("llvm.x86.avx512.vpdpwssd.512", "int32x16", acc, *pairs)
    return acc + codes * weight
