"""Direct convolution by the matrix products of Armv8.6.

usmmla multiplies two pixels of eight codes, u8, with two channels of eight weights, s8, and adds
the four sums to int32 lanes without saturation (Arm ARM, USMMLA): 32 products, twice those of
usdot. A step takes sixteen codes of every pixel, as in ``direct_neon``. Two pixels share a vector
of codes, and the lanes of an accumulator are

    pixel 0 channel 0,  pixel 0 channel 1,  pixel 1 channel 0,  pixel 1 channel 1,

so that two accumulators become four channels of each of two pixels at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Registers, Step, TileSums
from gmpq.backends.tvm.kernels.cpu.direct.arm_neon import LANES, NeonWeights, rows_of, tiles
from gmpq.backends.tvm.kernels.cpu.direct.direct import WeightTables, constants_of, kernel
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, DirectTile, shape_of
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    assign,
    call_intrinsic,
    in_registers,
    load,
    view,
    zeros,
)
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import Steps
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving
from gmpq.ir import Conv2d, Linear

MOST_TILES = 8
INSTRUCTION = "usmmla"
PRODUCT_CYCLES = 0.5


def refuses(site: Site) -> str | None:
    """Return why matrix products cannot or do not pay."""
    if "i8mm" not in site.target.features:
        return "needs the matrix products of Armv8.6"
    y = site.output.codes
    return "has one pixel: matrices take two" if y.height * y.width < 2 else None


def candidates(site: Site, most: int = MOST_TILES) -> tuple[Candidate, ...]:
    """Return the ``most`` tiles of the fewest predicted cycles."""
    shape, steps = shape_of(site, LANES), _steps(site)
    found = [
        Candidate(
            str(tile),
            _cycles(shape, steps, tile),
            partial(build, site, shape, tile),
            site.work(INSTRUCTION),
        )
        for tile in _tiles(site, steps)
    ]
    found.sort(key=lambda candidate: candidate.cost)
    return arriving(site, found[:most], 1)


def _steps(site: Site) -> Steps:
    assert isinstance(site.node, Conv2d | Linear)
    tile = DirectTile(1, 1, 1, blocks_outside=False)
    return Steps(*rows_of(site.node.weight.codes, shape_of(site, LANES), tile).shape[1:4])


def _tiles(site: Site, steps: Steps) -> Iterator[DirectTile]:
    """Yield the tiles of an even number of pixels that fit the registers."""
    registers = site.target.vector_registers
    return tiles(site, steps.total, lambda p, v: p % 2 == 0 and p * (v + 1) + 3 <= registers)


def _cycles(shape: DirectShape, steps: Steps, tile: DirectTile) -> float:
    """Return predicted cycles: products, or two loads a cycle."""
    tiles = -(-shape.y.height // tile.rows) * -(-shape.y.width // tile.columns)
    blocks = shape.x.batch * tiles * -(-shape.vectors // tile.vectors)
    products = 2 * tile.pixels * tile.vectors * PRODUCT_CYCLES
    loads = (2 * tile.pixels + LANES * tile.vectors) / 2  # codes are put together in pairs
    epilogue = 5 * tile.pixels * tile.vectors + 10
    return blocks * (steps.total * (max(products, loads) + 0.5) + epilogue)


FAMILY = Family("direct_mmla", (Conv2d, Linear), candidates, refuses)


def build(site: Site, shape: DirectShape, tile: DirectTile) -> Call:
    """Return the call of one tile."""
    assert isinstance(site.node, Conv2d | Linear)
    rows = rows_of(site.node.weight.codes, shape, tile)
    steps = Steps(*rows.shape[1:4])
    accumulate = partial(_accumulate, steps)
    tables = WeightTables(steps=len(rows) * steps.total)
    function = kernel(shape, NeonWeights(), tile, epilogue_of(site), accumulate, tables)
    return site.call(function, constants_of(site, shape, tile, _matrices(rows)))


def _matrices(rows: Array) -> Array:
    """Return weights [..., channels / 2, half, 2, 8] of [..., channels, 16]."""
    split = rows.reshape(*rows.shape[:-2], -1, 2, 2, neon.CODES // 2)
    return np.ascontiguousarray(np.swapaxes(split, -3, -2))


# --- the code ------------------------------------------------------------------------------------


def _accumulate(steps: Steps, sums: TileSums) -> Registers:
    """Return the accumulators by pixel and vector."""
    pairs, couples = sums.tile.pixels // 2, 2 * sums.tile.vectors  # of pixels, of channels
    acc = zeros(pairs * couples, "int32", 4)
    with T.grid(*steps) as step:
        _add(steps, sums, acc, step)
    total = sums.registers("int32x4")
    sums.begin(total)
    for (p, slots), n in product(enumerate(total), range(sums.tile.vectors)):
        two = [acc[p // 2 * couples + 2 * n + i][0] for i in range(2)]
        lanes = [first + i for first in (0, 4) for i in (2 * (p % 2), 2 * (p % 2) + 1)]
        assign(slots[n], slots[n][0] + T.Shuffle(two, lanes))
    return total


def _add(steps: Steps, sums: TileSums, acc: list[Buffer], step: Step) -> None:
    """Add the products of one step: those of the lower codes, then those of the upper ones."""
    couples = 2 * sums.tile.vectors
    r, s, k = step
    number = ((sums.place.block * steps.rows + r) * steps.columns + s) * steps.depth + k
    codes = _codes(sums, step)
    for half in range(2):
        for couple in range(couples):
            place = (number * couples + couple) * 2 + half
            (weights,) = in_registers([load(sums.w, place * neon.CODES, neon.CODES)])
            for pair, pixels in enumerate(codes[half]):
                slot = acc[pair * couples + couple]
                assign(slot, _usmmla(slot[0], pixels, weights))


def _codes(sums: TileSums, step: Step) -> list[list[Expr]]:
    """Return the lower eight codes of every two pixels, then the upper eight."""
    r, s, k = step
    x = view(sums.x.data, "int8", sums.shape.x.size_bytes)
    first = sums.corner() + sums.tap(r, s) + k * neon.CODES
    pixels = in_registers([load(x, first + offset, neon.CODES) for offset in sums.offsets()])
    return [
        in_registers(
            [
                T.Shuffle([a, b], [*range(start, start + 8), *range(16 + start, 24 + start)])
                for a, b in zip(pixels[::2], pixels[1::2], strict=True)
            ]
        )
        for start in (0, 8)
    ]


def _usmmla(acc: Expr, codes: Expr, weights: Expr) -> Expr:
    return call_intrinsic("llvm.aarch64.neon.usmmla", "int32x4", acc, codes, weights)
