"""Direct convolution of many bits in bytes on AVX2 whose vectors are pixels of one output.

Where the lanes are outputs, each needs codes flipped by itself, or rare pairs
(``x86_flip_search``). Here all lanes see the same weights, so an entry of ``x86_pixels_search`` is
exact for two outputs alone, and nearly all steps are in pairs:

    acc32 = acc32 + vpmaddwd(vpmaddubsw(x, w) + vpmaddubsw(x', w'), 1)

for two outputs and four vectors of pixels, with weights broadcast. Entries that flip codes follow
in a separate loop, with x XOR mask in the load of the codes. A thread first turns the codes of
some tiles into vectors of pixels, which stay in its cache for all outputs; sums of 16 outputs are
transposed back and requantized together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.direct import x86_flip
from gmpq.backends.tvm.kernels.cpu.direct.tiling import shape_of
from gmpq.backends.tvm.kernels.cpu.direct.x86_flip_search import all_ones_mask
from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_loops import (
    LANES,
    PLACE,
    WORDS,
    PixelsPlan,
    kernel,
)
from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_search import (
    OUTPUTS,
    STEPS,
    EntryTable,
    entry_table,
)
from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_tiles import (
    PIXELS,
    QUAD,
    PixelsStage,
    pixels_of,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, arriving, streamed_cycles
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpmaddubsw
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Conv2d

MOST_VECTORS = 4  # of pixels: with those of two outputs, eight accumulators
STAGE_BYTES = 132 << 10  # on the stack of a thread: 7x7 pixels of 2048 channels, and their places
LEAST_TASKS = (2, 8)  # work items that threads share
MOST_OUTPUTS = 2  # vectors that are finished together,
FEW_VECTORS = 9  # or one, where computing one of so few twice takes longer
SUMS_BYTES = 4 * MOST_OUTPUTS * LANES * MOST_VECTORS * PIXELS  # in addition to the stage
ENTRY_CYCLES = 1.85  # of a vector of pixels and an output
PAIR_CYCLES = 30.0  # of a pair of outputs and a tile: where its two loops end is guessed wrong
TRANSPOSE_CYCLES = 7.0  # of four steps of a vector of pixels
EPILOGUE_CYCLES = 7.0  # of eight outputs of a pixel


@dataclass(frozen=True, eq=False)  # no slots: cached properties live in the instance
class PixelsLayer:
    """Weights ``codes`` for input codes 0..``top``; ``stored`` outputs are whole vectors."""

    codes: Array
    top: int
    stored: int

    @cached_property
    def entry_table(self) -> EntryTable:
        """Entries of all pairs of outputs, which candidates share."""
        outputs, inputs = self.codes.shape[:2]
        padded = np.pad(self.codes, ((0, self.stored - outputs), (0, -inputs % 4), (0, 0), (0, 0)))
        steps = padded.transpose(0, 2, 3, 1).reshape(-1, OUTPUTS, padded[0].size // 4, 4)
        return entry_table(steps, self.top)


def refuses(site: Site) -> str | None:
    """Return why pixels are of no use as lanes: as flipping is not, or by the layer's sizes."""
    x, y = site.inputs[0].codes, site.output.codes
    if y.height * y.width < PIXELS:
        return f"an image has fewer than {PIXELS} pixels"
    if x.stored % VECTOR:
        return f"pixels do not begin with {VECTOR} channels in memory"
    useless = x86_flip.refuses(site)
    if useless is not None:
        return useless
    least = _stage_of(site, 1).bytes
    if least > STAGE_BYTES:
        return f"{PIXELS} pixels read {least >> 10} KiB of input, more than {STAGE_BYTES >> 10}"
    return None


def _stage_of(site: Site, vectors: int) -> PixelsStage:
    """Return the stage of one tile of at most ``vectors`` vectors."""
    y = site.output.codes
    return PixelsStage(shape_of(site, LANES), pixels_of(y.height * y.width, vectors), 1)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the plans, the one of the fewest predicted cycles first."""
    node, outputs = site.node, site.output.codes
    assert isinstance(node, Conv2d)
    plans = _plans(site)
    layer = PixelsLayer(
        node.weight.codes,
        all_ones_mask(x86_flip.highest_code(site)),
        plans[0].stage.shape.vectors * LANES,
    )
    work = site.work(Vpmaddubsw(LANES).instruction, (STEPS + 1) / (2 * STEPS))
    found = [
        Candidate(
            str(plan),
            _cycles(site, plan),
            partial(build, site, plan, layer),
            work,
            plan.spans * plan.parts * outputs.batch,
        )
        for plan in plans
    ]
    entry = 4 * (WORDS + 1) / (4 * OUTPUTS * STEPS)  # bytes of a weight, with a mask
    return tuple(
        replace(candidate, weight_bytes=round(entry * node.weight.codes.size))
        for candidate in arriving(site, sorted(found, key=lambda each: each.cost), 1)
    )


def _plans(site: Site) -> list[PixelsPlan]:
    """Return stages of one tile, of two, and of as many as fit, each in few and in more parts."""
    tiles_of = (_stage_of(site, vectors) for vectors in range(MOST_VECTORS, 0, -1))
    one = next(stage for stage in tiles_of if stage.bytes <= STAGE_BYTES)
    most, vectors = min(one.pixels.tiles, STAGE_BYTES // one.bytes), one.shape.vectors
    together = 1 if vectors % 2 and vectors < FEW_VECTORS else MOST_OUTPUTS
    found = []
    for tiles, tasks in product(sorted({1, min(2, most), most}), LEAST_TASKS):
        whole = PixelsPlan(replace(one, tiles=tiles), together, 1)
        parts = -(-tasks // (whole.spans * site.output.codes.batch))
        found.append(replace(whole, parts=min(parts, whole.blocks)))
    return list(dict.fromkeys(found))


def _cycles(site: Site, plan: PixelsPlan) -> float:
    """Return predicted cycles."""
    stage, shape, tiles = plan.stage, plan.stage.shape, plan.stage.pixels.tiles
    pixels, outputs = stage.pixels.vectors, plan.blocks * plan.vectors
    pairs, entries = outputs * LANES // OUTPUTS, shape.steps / STEPS + 2
    entry = ENTRY_CYCLES * OUTPUTS * pixels + tiles
    farther = 1.0 if 4 * stage.tile_words <= site.target.l1d_bytes // 2 else 1.1
    add = pairs * (farther * entries * entry + PAIR_CYCLES * tiles)
    transpose = plan.parts * TRANSPOSE_CYCLES * pixels * stage.tile_words / stage.width / QUAD
    epilogue = EPILOGUE_CYCLES * pixels * PIXELS * outputs
    table = round(4 * WORDS * pairs * entries)
    again = table * (plan.spans - 1) if table > site.target.l2_bytes else 0
    return site.output.codes.batch * (add + transpose + epilogue + streamed_cycles(site, again))


FAMILY = Family("direct_pixels", (Conv2d,), candidates, refuses)


def build(site: Site, plan: PixelsPlan, layer: PixelsLayer) -> Call:
    """Return the call of a plan."""
    found = layer.entry_table
    assert isinstance(site.node, Conv2d)
    constants = start_and_factor(site.node.weight, site.inputs[0].q, site.output.value.q)
    start, factor = (np.pad(each, (0, layer.stored - len(each))) for each in constants)
    start = (start + found.constant.reshape(-1)).astype(np.int32)  # modulo 2**32, as the sums
    table, parts = _table(plan.stage, found)
    function = kernel(plan, table.size, epilogue_of(site))
    return site.call(function, (table, parts, start, factor))


def _table(stage: PixelsStage, found: EntryTable) -> tuple[Array, Array]:
    """Return the entries as int32, and the parts of ``PixelsMemory`` [pairs, 3].

    An entry has weights by step and output, the places of both steps as uint16, and the mask.
    """
    tap, k = np.divmod(found.steps, stage.shape.depth)
    places = (tap * stage.depth + k) * (stage.width // PLACE)
    assert places.max(initial=0) <= np.iinfo(np.uint16).max
    fields = [found.weights, places.astype(np.uint16), found.masks]
    rows = np.concatenate([_words(field) for field in fields], axis=1)
    masked = found.masks.any(axis=1)
    kept = np.ones(rows.shape, bool)
    kept[:, -1] = masked
    begins = np.concatenate([[0], np.cumsum(WORDS + masked)])[found.offsets[:-1:2]]
    counts = np.diff(found.offsets).reshape(-1, 2)
    return rows[kept], np.column_stack([begins, counts]).astype(np.int32)


def _words(field: Array) -> Array:
    return np.ascontiguousarray(field.reshape(len(field), -1)).view(np.int32)
