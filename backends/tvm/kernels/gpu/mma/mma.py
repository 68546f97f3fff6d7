"""Convolution and fully connected layers as implicit matrix products of bytes on tensor cores.

    acc[p, o] = bias[o] - z * sum of w[o] + sum of x[p, t, c] * w[o, t, c] over taps t, channels c

``mma`` multiplies unsigned by signed bytes and wraps modulo 2**32, so that the sums are exact
wherever the accumulator fits int32, which ``spec.check`` proves. Codes of fewer bits are bytes too.
Padding channels hold anything and meet zero weights.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gmpq.backends.tvm.kernels.base import Call, Candidate, Family
from gmpq.backends.tvm.kernels.gpu.epilogue.epilogue import Epilogue, constants_of
from gmpq.backends.tvm.kernels.gpu.isa.borders import borders_of
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.gpu.mma.loops import implicit_gemm
from gmpq.backends.tvm.kernels.gpu.mma.shape import Shape
from gmpq.backends.tvm.kernels.gpu.mma.tile import Tile, packed
from gmpq.backends.tvm.kernels.requant import starts
from gmpq.backends.tvm.target.gpu import GROUP, VECTOR, GpuTarget
from gmpq.ir import Conv2d, Linear, Window

SIZES = (  # pixels, outputs, of a block and of a warp
    (64, 64, 32, 32),
    (128, 64, 64, 32),
    (128, 128, 64, 64),
    (64, 32, 32, 16),
    (32, 32, 16, 16),
)
CODE = 255  # the highest that memory may hold
WAIT = 16  # products in the time of a byte's way to shared memory
UNITS = 64  # blocks that a chip of middle size runs at once


def refuses(site: Site) -> str | None:
    """Return why a layer is no matrix product of whole words of K."""
    if isinstance(site.node, Conv2d) and site.node.groups > 1:
        return "has no groups"
    shape = Shape.of(site)
    if shape.by_rows:
        return None if _rows_fit(shape.window) else f"rows of taps exceed {VECTOR} bytes"
    if shape.x.stored % VECTOR:
        return f"needs channels in multiples of {VECTOR}"
    return None


def _rows_fit(window: Window) -> bool:
    """Return whether a row of taps is one step of neighbouring pixels."""
    return window.kernel[1] * GROUP <= VECTOR and window.dilation[1] == 1


def tiles(site: Site) -> tuple[Tile, ...]:
    """Return the tiles that a target can run for a layer."""
    shape, stages = Shape.of(site), 3 if site.target.copies_asynchronously else 2
    stored = VECTOR if shape.by_rows else shape.x.stored
    found = (
        Tile(bm, bn, bk, wm, wn, stages, bits)
        for bm, bn, wm, wn in SIZES
        for bk in (64, 32)
        for bits in ((4, 8) if _fits_four_bits(site) else (8,))
        if stored % bk == 0
    )
    return tuple(tile for tile in found if tile.legal())


def _fits_four_bits(site: Site) -> bool:
    """Return whether weights fit four bits, and 16 times any accumulator fits int32."""
    assert isinstance(site.node, Conv2d | Linear)
    weight, q = site.node.weight, site.inputs[0].q
    codes = weight.codes.reshape(len(weight.codes), -1).astype(np.int64)
    if codes.min() < -8 or codes.max() > 7:
        return False
    most = np.abs(codes).sum(axis=1) * CODE + np.abs(starts(weight, q))
    return bool(16 * most.max() < 1 << 31)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return a configuration per tile, the best predicted one first."""
    shape = Shape.of(site)
    found = [_candidate(site, shape, tile) for tile in tiles(site)]
    return tuple(sorted(found, key=lambda candidate: candidate.cost))


def _candidate(site: Site, shape: Shape, tile: Tile) -> Candidate:
    blocks = -(-shape.outputs // tile.bn)
    weights = blocks * tile.bn * shape.depth * tile.weight_bits // 8
    built = partial(build, site, tile)
    return Candidate(tile.name(), cost(shape, tile), built, site.work("mma"), weight_bytes=weights)


def cost(shape: Shape, tile: Tile) -> float:
    """Return the products of the busiest unit, and those that the copies of a step take."""
    blocks = -(-shape.pixels // tile.bm) * -(-shape.outputs // tile.bn)
    waves = -(-blocks // UNITS)
    products, copied = tile.bm * tile.bn * tile.bk, tile.step_bytes * WAIT
    return float(waves * UNITS * shape.steps(tile.bk) * (products + copied))


FAMILY: Family[GpuTarget] = Family("mma", (Conv2d, Linear), candidates, refuses)


def build(site: Site, tile: Tile) -> Call:
    """Return the call of a layer with packed weights, starts and factors."""
    assert isinstance(site.node, Conv2d | Linear)
    shape, epilogue = Shape.of(site), Epilogue.of(site)
    asynchronous = site.target.copies_asynchronously
    borders = borders_of(site)
    function = implicit_gemm(shape, tile, epilogue, borders, asynchronous=asynchronous)
    channels = -(-shape.outputs // tile.bn) * tile.bn
    weights = packed(shape.taps_of(site.node.weight.codes), tile)
    start, factor = constants_of(site, channels)
    return site.call(function, (weights, start * tile.scale, factor / np.float32(tile.scale)))
