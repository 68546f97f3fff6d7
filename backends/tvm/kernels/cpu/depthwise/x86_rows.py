"""Depthwise convolution by dot products over the rows of a window.

``x86_rows_lanes`` puts the codes of several rows of one column and channel into one int32 lane.
All output rows of a tile share these vectors: with four rows in a lane, the first output row of a
3x3 kernel multiplies them by the taps (w0, w1, w2, 0) and the second one by (0, w0, w1, w2). Along
a row each vector serves one column per column of the kernel. With two rows in a lane and one row
of outputs, the third row of taps is left over, and shares its lanes with the next column: five dot
products instead of six. The accumulator starts at
``bias - z * sum of w``, as in ``direct``, and is requantized four vectors at a time.

The proof obligation is that of ``narrowing``: |acc * factor| < 2**31, from the weights. Where
``requant_by_fma`` proves more, one instruction per accumulator replaces a conversion and a product.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.depthwise import loops
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_lanes import lanes_for
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_loops import RowsKernel
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_rows_tiling import (
    ChannelBlocks,
    RowsTile,
    taps_of,
    tiles,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import STEPS, accumulators, largest_step
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import fused_scale
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.ir import Conv2d, Window

MOST_TILES = 6


def refuses(site: Site) -> str | None:
    """Return why the site is not depthwise, or why no tile computes it exactly."""
    if (reason := loops.refuses_reals(site)) is not None:
        return reason
    if not lanes_for(site.target):
        return "needs AVX2 or AVX-512 VNNI"
    if not tiles(site):
        return "the kernel is too large for the registers"
    assert isinstance(site.node, Conv2d)
    steps = largest_step(site.node.weight, site.inputs[0].q, site.output.q)
    return None if steps < STEPS else f"may requantize to {steps:.3g} steps, beyond int32"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    return tuple(
        Candidate(str(tile), cycles, partial(build, site, tile), site.work(tile.instruction))
        for tile, cycles in tiles(site)[:MOST_TILES]
    )


def build(site: Site, tile: RowsTile) -> Call:
    """Return the call of one tile."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    padding = (0, y.codes.stored - y.codes.channels)
    codes = np.pad(node.weight.codes[:, 0], (padding, (0, 0), (0, 0)))
    order = np.concatenate([part.order().reshape(-1) for part in tile.parts])
    start, factor = start_and_factor(node.weight, x.q, y.q)
    fused = fused_scale(*accumulators(node.weight, x.q), factor, y.q)
    raised, addend = np.zeros_like(start), np.zeros_like(factor)
    if fused is not None:
        raised, factor, addend = fused.raised, fused.factor, fused.addend
    constants = (
        tile.parts[-1].lanes.permutation,
        np.concatenate([_packed(codes, node.window, tile.rows, part) for part in tile.parts]),
        *(np.pad(array, padding)[order] for array in (start + raised, factor, addend)),
        np.zeros(y.codes.width, np.int32),
    )
    kernel = RowsKernel(x.codes, y.codes, node.window, tile, y.q, fused is not None)
    return site.call(kernel.function(), constants)


def _packed(codes: Array, window: Window, rows: int, part: ChannelBlocks) -> Array:
    """Return flat weights [blocks, products, vectors, lanes, places of a lane] of [C, kH, kW]."""
    order, lanes, taps = part.order(), part.lanes, taps_of(window, rows, part.lanes)
    products = [product for output in range(rows) for product in taps.products(output)]
    found = np.zeros((part.blocks, len(products), *order.shape[1:], lanes.rows), lanes.dtype)
    for number, (_, _, places) in enumerate(products):
        for place, tap in enumerate(places):
            if tap is not None:
                found[:, number, :, :, place] = codes[order, *tap]
    return found.reshape(-1)


FAMILY = Family("depthwise_rows", (Conv2d,), candidates, refuses)
