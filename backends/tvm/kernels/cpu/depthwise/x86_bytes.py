"""Depthwise convolution of few bits on AVX2: all products of a window are added in int16.

A thread first puts the codes of some rows in pairs, each byte with the one of the row below, into
memory that stays in its cache: vector by vector, along the columns. All taps of all output rows of
a tile read them from there. With two output rows and a 3x3 kernel, rows 0 and 1 are a pair and rows
2 and 3: the first output row multiplies them by the taps (w0, w1), (w2, 0), and the second one by
(0, w0), (w1, w2). VPMADDUBSW (Intel SDM) adds both products of sixteen channels in int16, and
vpaddw all taps.

Proof obligation, for codes 0..top: no pair of taps saturates,

    top * (its positive taps) <= 32767  and  top * (its negative taps) >= -32768,

and the accumulators of a channel span less than 2**16. Addition modulo 2**16 then loses nothing: a
sum starts where it ends up in 0..65535, and with 0x4B00 above it is the float32 of
``requant_by_fma``, which proves the requantization for every accumulator.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.depthwise import loops
from gmpq.backends.tvm.kernels.cpu.depthwise.x86_bytes_loops import (
    CHANNELS,
    ELEMENTS,
    PAIR,
    VECTORS,
    WIDE_LANES,
    BytesKernel,
    BytesTile,
    order,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import narrowed_order
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import STEPS, accumulators, largest_step
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_by_fma import FusedScale, fused_scale
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.ir import Conv2d, QParams, Window

MOST_TILES = 6
MOST_SUMS = 12  # vectors in registers, of 16
SIDES = range(1, 5)  # rows, and pixels of a row, whose sums are in registers
CUTS = (1, 2, 4, 8)  # of rows into runs of columns
STAGE_BYTES = 128 << 10  # on the stack of a thread
SPAN = 1 << 16  # accumulators that int16 distinguishes
INT16 = np.iinfo(np.int16)
REMEMBERED = 4  # proofs of one layer, which is asked for refusals, then for candidates
L1D_PAIR_CYCLES, L2_PAIR_CYCLES = 1.0, 2.0  # of a vector of pairs, by where its rows are
PRODUCT = 0.8  # cycles of a multiplication and an addition
EPILOGUE_CYCLES = 1.7  # cycles of a vector of float32
LOOP, BLOCK = 8, 60  # cycles around the pixels of a tile, and around a block of channels


def refuses(site: Site) -> str | None:
    """Return why the site is not depthwise, or why int16 does not hold its sums."""
    if (reason := loops.refuses_reals(site)) is not None:
        return reason
    if "avx2" not in site.target.features:
        return "needs AVX2"
    if "avx512vnni" in site.target.features:
        return "AVX-512 VNNI multiplies four rows at once"
    if site.output.codes.stored < CHANNELS:
        return f"needs {CHANNELS} channels"
    if not tiles(site):
        return f"the rows of a tile take more than {STAGE_BYTES >> 10} KiB"
    proof = prove(site)
    return proof if isinstance(proof, str) else None


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    scale = prove(site)
    assert isinstance(scale, FusedScale)
    work = site.work("vpmaddubsw+vpaddw")
    return tuple(
        Candidate(str(tile), cycles, partial(build, site, tile, scale), work)
        for tile, cycles in tiles(site)[:MOST_TILES]
    )


FAMILY = Family("depthwise_bytes", (Conv2d,), candidates, refuses)


def prove(site: Site) -> FusedScale | str:
    """Return how the sums are requantized, or why they are not exact."""
    node = site.node
    assert isinstance(node, Conv2d)
    return _prove(node, site.inputs[0].q, site.output.q)


@lru_cache(maxsize=REMEMBERED)
def _prove(node: Conv2d, qx: QParams, qy: QParams) -> FusedScale | str:
    if saturates(node.weight.codes[:, 0], max(qx.high, qx.zero_point)):
        return "some pair of products does not fit int16"
    low, high = accumulators(node.weight, qx)
    if (span := int((high - low).max())) >= SPAN:
        return f"a channel's sums span {span}: int16 distinguishes {SPAN}"
    if (steps := largest_step(node.weight, qx, qy)) >= STEPS:
        return f"may requantize to {steps:.3g} steps, beyond int32"
    _, factor = start_and_factor(node.weight, qx, qy)
    return fused_scale(low, high, factor, qy, SPAN) or "no one instruction requantizes exactly"


def saturates(taps: Array, top: int) -> bool:
    """Return whether vpmaddubsw may saturate for codes 0..``top`` and taps [C, kH, kW] in pairs.

    Any two neighbouring rows may be a pair, and a row may be alone.
    """
    padded = np.pad(taps.astype(np.int64), ((0, 0), (1, 1), (0, 0)))
    most, least = (
        (part[:, 1:] + part[:, :-1]) * top
        for part in (np.maximum(padded, 0), np.minimum(padded, 0))
    )
    return bool(most.max() > INT16.max or least.min() < INT16.min)


def tiles(site: Site) -> list[tuple[BytesTile, float]]:
    """Return the tiles that fit the registers, with their predicted cycles, best first."""
    node, y = site.node, site.output.codes
    assert isinstance(node, Conv2d)
    columns = sorted({-(-y.width // parts) for parts in CUTS})
    sizes = (BytesTile(*sizes) for sizes in product(SIDES, SIDES, columns))
    found = [(tile, _cycles(site, tile)) for tile in sizes if _fits(y, node.window, tile)]
    return sorted(found, key=lambda pair: pair[1])


def _fits(y: Layout, window: Window, tile: BytesTile) -> bool:
    inside = tile.rows <= y.height and tile.pixels <= tile.columns
    few = tile.rows * tile.pixels * VECTORS <= MOST_SUMS
    return inside and few and ELEMENTS * tile.staged(window) <= STAGE_BYTES


def _cycles(site: Site, tile: BytesTile) -> float:
    """Return predicted cycles: pairs, products, and finishing.

    The blocks of a run read the same lines of codes, which should stay in L1d.
    """
    node, x, y = site.node, site.inputs[0].codes, site.output.codes
    assert isinstance(node, Conv2d)
    window, taps = node.window, tile.taps(node.window)
    in_l1d = PAIR * len(taps.groups) * tile.read(window) * x.stored <= site.target.l1d_bytes // 2
    pairs = tile.staged(window) * (L1D_PAIR_CYCLES if in_l1d else L2_PAIR_CYCLES)
    steps = -(-tile.columns // tile.pixels)
    sums = tile.pixels * VECTORS * taps.count * PRODUCT
    epilogue = tile.pixels * tile.rows * CHANNELS / WIDE_LANES * EPILOGUE_CYCLES
    tiles = -(-y.height // tile.rows) * -(-y.width // tile.columns)
    blocks = y.batch * tiles * -(-y.stored // CHANNELS)
    return blocks * (pairs + steps * (sums + epilogue + LOOP) + BLOCK)


def build(site: Site, tile: BytesTile, scale: FusedScale) -> Call:
    """Return the call of one tile."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    start, _ = start_and_factor(node.weight, x.q, y.q)
    begun = start.astype(np.int64) + scale.raised
    padding = (0, y.codes.stored - y.codes.channels)
    codes = np.pad(node.weight.codes[:, 0], (padding, (0, 0), (0, 0)))
    firsts = np.arange(0, y.codes.stored, CHANNELS)  # of blocks; the last one may overlap
    blocks = np.minimum(firsts, y.codes.stored - CHANNELS)[:, None, None]
    lanes, wide = ((blocks + place).reshape(-1) for place in (order(), narrowed_order(WIDE_LANES)))
    kernel = BytesKernel(x.codes, y.codes, node.window, tile, y.q)
    constants = (
        _weights(codes[blocks + order()], kernel),
        np.pad(begun, padding)[lanes].astype(np.int16),  # modulo 2**16
        *(np.pad(array, padding)[wide] for array in (scale.factor, scale.addend)),
        np.zeros(tile.columns, np.int32),
    )
    return site.call(kernel.function(), constants)


def _weights(codes: Array, kernel: BytesKernel) -> Array:
    """Return flat weights as they are read, of ``codes`` [blocks, vectors, lanes, kH, kW]."""
    found = []
    for column, step in product(range(codes.shape[-1]), kernel.steps):
        vector = codes[:, step.vector]
        for _, taps in step.touched:
            pairs = np.zeros((*vector.shape[:2], PAIR), np.int8)
            for place, tap in enumerate(taps):
                if tap is not None:
                    pairs[..., place] = vector[:, :, tap, column]
            found.append(pairs)
    return np.stack(found, axis=1).reshape(-1)
