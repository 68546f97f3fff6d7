"""Direct convolution of many bits in bytes on AVX2: codes are flipped, and steps are paired.

``x86_flip_search`` sorts the steps of every block of outputs into groups: one or two steps that
are added in int16, which is exact once some lanes have flipped codes, and widened at once,

    acc32 = acc32 + vpmaddwd(vpmaddubsw(x, w) + vpmaddubsw(x' XOR mask, w'), 1)

so that two steps take three multiplications instead of four (Intel SDM, VPMADDUBSW, VPMADDWD). The
steps of a block may come in any order, from all over the window; a table has the place of the codes
of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import chain
from operator import add

import numpy as np
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct.accumulate import Registers, TileSums
from gmpq.backends.tvm.kernels.cpu.direct.direct import WeightTables, constants_of, kernel
from gmpq.backends.tvm.kernels.cpu.direct.tiling import (
    DirectShape,
    DirectTile,
    best_tiles,
    blocked,
    shape_of,
)
from gmpq.backends.tvm.kernels.cpu.direct.x86_flip_search import (
    STEP_GROUPS,
    GroupTables,
    StepGroup,
    all_ones_mask,
    group_tables,
)
from gmpq.backends.tvm.kernels.cpu.direct.x86_int16 import run_of
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, assign, in_registers
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpmaddubsw, vpmaddubsw_lanes
from gmpq.backends.tvm.target.cpu import GROUP
from gmpq.ir import Conv2d

MOST_TILES = 4  # of each number of vectors
MOST_VECTORS = 2  # with more, too few steps are paired
LOOKED_AT = 512  # steps of a few blocks of outputs, by which costs are predicted
PACKED_BYTES = 2  # of a weight, with its mask and place
LONG_RUN = 8  # steps that direct16 adds before it widens; from there on it is faster


@dataclass(frozen=True, slots=True)
class PairedVpmaddubsw(Vpmaddubsw):
    """Steps of ``multiplied`` multiplications and ``cycles`` on average."""

    multiplied: float = 2.0
    cycles: float = 1.0
    temporaries = 4  # operand, product, ones, and the weights of the second step

    @property
    def product_cycles(self) -> float:
        """Codes from all over the image get in the way of the instructions."""
        return 1.28 * self.cycles


@dataclass(frozen=True, slots=True, eq=False)
class LayerGroups:
    """The groups of a layer: those of its blocks one after the other, by kind in each."""

    vectors: Array  # int8 [vectors * outputs of a block * 4]: weights and masks
    steps: Array  # which [kH, kW, depth] each step is, counted in this order: [steps]
    step_ends: Array  # of each block and kind, a 0 before them: [1 + blocks * kinds]
    vector_ends: Array  # the same, counted in vectors
    constant: Array  # what flipping takes from the sums: int64 [blocks, outputs]

    @classmethod
    def of(cls, found: GroupTables) -> LayerGroups:
        """Return the groups of blocks and kinds in one order."""
        flat = list(chain.from_iterable(found))
        constant = np.stack([sum(part.constant for part in forms) for forms in found])
        return cls(
            np.concatenate([part.vectors.reshape(-1) for part in flat]),
            np.concatenate([part.steps.reshape(-1) for part in flat]),
            np.cumsum([0, *(part.steps.size for part in flat)]),
            np.cumsum([0, *(len(part.steps) * part.vectors.shape[1] for part in flat)]),
            constant.reshape(len(found), -1, 2).sum(axis=-1),
        )


@dataclass(frozen=True, eq=False)  # no slots: cached properties live in the instance
class FlipLayer:
    """Weights ``codes`` for input codes 0..``high``, in blocks of some vectors of outputs."""

    codes: Array
    shape: DirectShape
    vectors: int
    high: int

    @cached_property
    def groups(self) -> LayerGroups:
        """All groups, which candidates of several tiles share."""
        return LayerGroups.of(group_tables(self._weights, all_ones_mask(self.high)))

    @property
    def dot(self) -> PairedVpmaddubsw:
        """What a step costs, by a look at some blocks."""
        weights = self._weights
        some = weights[: -(-LOOKED_AT // weights.shape[1])]
        return dot_of(group_tables(some, all_ones_mask(self.high)), self.shape.lanes)

    @cached_property
    def _weights(self) -> Array:
        """Weights [blocks, steps, lanes of int16, 2]."""
        tile = DirectTile(1, 1, self.vectors, blocks_outside=False)
        whole = blocked(self.codes, self.shape, tile).astype(np.int16)
        return whole.reshape(len(whole), -1, 2 * self.vectors * self.shape.lanes, 2)


def dot_of(found: GroupTables, lanes: int) -> PairedVpmaddubsw:
    """Return what a step of ``found`` costs on average."""
    groups = [pair for block in found for pair in zip(STEP_GROUPS, block, strict=True)]
    counted = [(len(part.steps), group) for group, part in groups]
    steps = sum(count * group.steps for count, group in counted)
    multiplied = sum(count * group.multiplications for count, group in counted)
    cycles = sum(count * group.cycles for count, group in counted)
    return PairedVpmaddubsw(lanes, multiplied=multiplied / steps, cycles=cycles / steps)


def refuses(site: Site) -> str | None:
    """Return why flipping is of no use."""
    node = site.node
    assert isinstance(node, Conv2d)
    if "avx512vnni" in site.target.features:
        return "AVX-512 VNNI adds four products at once into int32"
    if vpmaddubsw_lanes(site.target) is None:
        return "needs AVX2"
    if node.groups > 1:
        return "needs one group"
    if (node.weight.codes == np.iinfo(np.int8).min).any():
        return "a weight of -128 has no opposite"
    run = run_of(site)
    if run is None or run.steps < LONG_RUN:
        return None
    return f"int16 holds the sums of {run.steps} steps: direct16 adds more than pairs"


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles."""
    node, lanes = site.node, vpmaddubsw_lanes(site.target)
    assert isinstance(node, Conv2d)
    assert lanes is not None
    shape, found = shape_of(site, lanes), []
    for vectors in range(1, min(MOST_VECTORS, shape.vectors) + 1):
        layer = FlipLayer(node.weight.codes, shape, vectors, highest_code(site))
        dot = layer.dot
        tiles = best_tiles(shape, dot, site.target, MOST_TILES, vectors)
        work = site.work(dot.instruction, dot.multiplied / 2)
        found += [
            Candidate(str(tile), cycles, partial(build, site, tile, layer), work)
            for tile, cycles in tiles
        ]
    return arriving(site, found, PACKED_BYTES)


FAMILY = Family("direct_flip", (Conv2d,), candidates, refuses)


def highest_code(site: Site) -> int:
    """Return the highest code that a convolution reads, padding included, and at least 1."""
    q = site.inputs[0].q
    return max(q.high, q.zero_point, 1)


def build(site: Site, tile: DirectTile, layer: FlipLayer) -> Call:
    """Return the call of a tile."""
    shape, groups = layer.shape, layer.groups
    packed, start, factor = constants_of(site, shape, tile, groups.vectors)
    start = (start + groups.constant).astype(np.int32)  # modulo 2**32, as the accumulators
    tables = {
        "places": _places(shape)[groups.steps],
        "step_ends": groups.step_ends,
        "vector_ends": groups.vector_ends,
    }
    more = tuple((name, "int32", table.size) for name, table in tables.items())
    vectors = int(groups.vector_ends[-1])
    dot = PairedVpmaddubsw(shape.lanes)
    function = kernel(shape, dot, tile, epilogue_of(site), _accumulate, WeightTables(more, vectors))
    constants = (table.reshape(-1).astype(np.int32) for table in tables.values())
    return site.call(function, (packed, start, factor, *constants))


def _places(shape: DirectShape) -> Array:
    """Return the int32 from a pixel's first tap to the codes of each step."""
    (dy, dx), (rows, columns) = shape.window.dilation, shape.window.kernel
    r, s, k = np.ix_(np.arange(rows), np.arange(columns), np.arange(shape.depth))
    taps = r * (dy * shape.x.row) + s * (dx * shape.x.stored)
    return np.asarray(taps // GROUP + k).reshape(-1)


# --- the code ------------------------------------------------------------------------------------


def _accumulate(sums: TileSums) -> Registers:
    """Return the accumulators by pixel and vector."""
    acc = sums.registers(f"int32x{sums.shape.lanes}")
    _, step_ends, vector_ends = sums.more
    sums.begin(acc)
    for number, group in enumerate(STEP_GROUPS):
        part = sums.place.block * len(STEP_GROUPS) + number
        first, end = step_ends[part], step_ends[part + 1]
        with T.serial(0, (end - first) // group.steps) as i:
            _add_group(
                sums, acc, group, first + i * group.steps, vector_ends[part] + i * group.vectors
            )
    return acc


def _add_group(sums: TileSums, acc: Registers, group: StepGroup, step: Expr, vector: Expr) -> None:
    """Add the group whose steps and vectors start at the given ones."""
    dot, places = sums.dot, sums.more[0]
    vectors = [sums.weights(sums.w, vector + n) for n in range(group.vectors)]
    weights, masks = vectors[: group.steps], vectors[group.steps :]
    first, kept = sums.corner() // GROUP, group.steps - group.flipped
    there = in_registers([first + places[step + k] for k in range(group.steps)])
    for offset, pixel in zip(sums.offsets(), acc, strict=True):
        codes = in_registers([dot.operands(sums.x[place + offset // GROUP])[0] for place in there])
        for n, slot in enumerate(pixel):
            flipped = [T.bitwise_xor(x, m[n][0]) for x, m in zip(codes[kept:], masks, strict=True)]
            operands = zip([*codes[:kept], *flipped], weights, strict=True)
            products = [dot.pairs([operand], weight[n]) for operand, weight in operands]
            assign(slot, slot[0] + dot.widen(reduce(add, products)))
