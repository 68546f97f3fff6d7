"""Direct convolution of many bits in bytes on AVX2 whose vectors are pixels of one output.

Where the lanes are outputs, each needs codes flipped by itself, or rare partners (``flips``). Here
all lanes see the same weights, so an entry of ``pixel_pairs`` is exact for two outputs alone, and
nearly all steps are in pairs:

    acc32 = acc32 + vpmaddwd(vpmaddubsw(x, w) + vpmaddubsw(x', w'), 1)

for two outputs and four vectors of pixels, with weights broadcast. Entries that flip codes follow
in a loop of their own, with x XOR mask in the load of the codes. A thread first turns the codes of
some tiles into vectors of pixels, which stay in its cache for all outputs; sums of 16 outputs are
turned back and finished together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import product
from operator import add

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.dot import Narrow, multiplied_lanes
from gmpq.backends.tvm.epilogue import Bound, Finish
from gmpq.backends.tvm.groups import PixelSums
from gmpq.backends.tvm.kernels.base import (
    Array,
    Call,
    Candidate,
    Family,
    Site,
    arriving,
    streamed_cycles,
)
from gmpq.backends.tvm.kernels.direct16 import run_of
from gmpq.backends.tvm.kernels.direct_flip import LONG_RUN
from gmpq.backends.tvm.kernels.direct_tile import shape_of
from gmpq.backends.tvm.kernels.flips import top_of
from gmpq.backends.tvm.kernels.pixel_pairs import OUTPUTS, STEPS, Entries, entries
from gmpq.backends.tvm.kernels.pixel_tiles import (
    PIXELS,
    QUAD,
    Stage,
    Staged,
    fill,
    pixels_of,
    turned,
)
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.layout import VECTOR
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    held,
    inwards,
    load,
    put,
    registers,
    scratch,
    splat,
    store,
    view,
)
from gmpq.ir import Conv2d

LANES = 8  # of int32
MOST_VECTORS = 4  # of pixels: with those of two outputs, eight accumulators
STAGE_BYTES = 132 << 10  # on the stack of a thread: 7x7 pixels of 2048 channels, and their places
PIECES = (2, 8)  # that threads share, at least
MOST_OUTPUTS = 2  # vectors that are finished together,
FEW_VECTORS = 9  # or one, where computing one of so few twice takes longer
SUMS_BYTES = 4 * MOST_OUTPUTS * LANES * MOST_VECTORS * PIXELS  # beside the stage
WORDS = OUTPUTS * STEPS + 1  # int32 of an entry: weights and places, and a mask if it has one
PLACE = 2  # int32 of a stage: what a place counts
ENTRY_CYCLES = 1.85  # of a vector of pixels and an output
PAIR_CYCLES = 20.0  # of a pair of outputs and a tile: where its two loops end is guessed wrong
TURN_CYCLES = 7.0  # of four steps of a vector of pixels
FINISH_CYCLES = 7.0  # of eight outputs of a pixel


@dataclass(frozen=True, slots=True)
class Plan:
    """How a layer is shared out: ``parts`` of the outputs, each for all stages."""

    stage: Stage
    vectors: int  # of outputs, finished together
    parts: int

    @property
    def spans(self) -> int:
        """Stages of an image."""
        return -(-self.stage.pixels.tiles // self.stage.tiles)

    @property
    def blocks(self) -> int:
        """Blocks of ``vectors`` vectors of outputs."""
        return -(-self.stage.shape.vectors // self.vectors)

    @property
    def sums(self) -> int:
        """Of a block and a tile."""
        return self.vectors * LANES * self.stage.width

    def __str__(self) -> str:
        tiles, vectors = self.stage.tiles, self.vectors
        pixels = f"{tiles}x{self.stage.width} pixels"
        return f"{pixels} x {vectors} vectors, {self.parts} parts of outputs"


@dataclass(frozen=True, eq=False)  # no slots: cached properties live in the instance
class Layer:
    """Weights ``codes`` for input codes 0..``top``; ``stored`` outputs are whole vectors."""

    codes: Array
    top: int
    stored: int

    @cached_property
    def entries(self) -> Entries:
        """Entries of all pairs of outputs, which candidates share."""
        outputs, inputs = self.codes.shape[:2]
        padded = np.pad(self.codes, ((0, self.stored - outputs), (0, -inputs % 4), (0, 0), (0, 0)))
        steps = padded.transpose(0, 2, 3, 1).reshape(-1, OUTPUTS, padded[0].size // 4, 4)
        return entries(steps, self.top)


def refuses(site: Site) -> str | None:
    """Return why pixels are of no use as lanes."""
    node, x, y = site.node, site.inputs[0].codes, site.output.codes
    assert isinstance(node, Conv2d)
    if "avx512vnni" in site.target.features:
        return "AVX-512 VNNI adds four products at once into int32"
    if multiplied_lanes(site.target) is None:
        return "needs AVX2"
    if node.groups > 1:
        return "needs one group"
    if y.height * y.width < PIXELS:
        return f"an image has fewer than {PIXELS} pixels"
    if x.stored % VECTOR:
        return f"pixels do not begin with {VECTOR} channels in memory"
    if (node.weight.codes == np.iinfo(np.int8).min).any():
        return "a weight of -128 has no opposite"
    least = _stage_of(site, 1).bytes
    if least > STAGE_BYTES:
        return f"{PIXELS} pixels read {least >> 10} KiB of input, more than {STAGE_BYTES >> 10}"
    run = run_of(site)
    if run is None or run.steps < LONG_RUN:
        return None
    return f"int16 holds the sums of {run.steps} steps: direct16 adds more than pairs"


def _stage_of(site: Site, vectors: int) -> Stage:
    """Return the stage of one tile of at most so many vectors."""
    y = site.output.codes
    return Stage(shape_of(site, LANES), pixels_of(y.height * y.width, vectors), 1)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return stages of one tile, of two, and of as many as fit, each in few and in more parts."""
    node, y = site.node, site.output.codes
    assert isinstance(node, Conv2d)
    tiles_of = (_stage_of(site, vectors) for vectors in range(MOST_VECTORS, 0, -1))
    one = next(stage for stage in tiles_of if stage.bytes <= STAGE_BYTES)
    q, most = site.inputs[0].q, min(one.pixels.tiles, STAGE_BYTES // one.bytes)
    top = top_of(max(q.high, q.zero_point, 1))
    layer = Layer(node.weight.codes, top, one.shape.vectors * LANES)
    work = site.work(Narrow(LANES).instruction, (STEPS + 1) / (2 * STEPS))
    vectors = 1 if one.shape.vectors % 2 and one.shape.vectors < FEW_VECTORS else MOST_OUTPUTS
    found: list[tuple[Plan, float]] = []
    for tiles, pieces in product(sorted({1, min(2, most), most}), PIECES):
        plan = Plan(replace(one, tiles=tiles), vectors, 1)
        spans = plan.spans * y.batch
        plan = replace(plan, parts=min(-(-pieces // spans), plan.blocks))
        if all(plan != other for other, _ in found):
            found.append((plan, _cycles(site, plan)))
    found.sort(key=lambda plan: plan[1])
    made = [
        Candidate(
            str(plan),
            cycles,
            partial(build, site, plan, layer),
            work,
            plan.spans * plan.parts * y.batch,
        )
        for plan, cycles in found
    ]
    return arriving(site, made, 1)


def _cycles(site: Site, plan: Plan) -> float:
    """Return predicted cycles."""
    stage, shape, tiles = plan.stage, plan.stage.shape, plan.stage.pixels.tiles
    pixels, outputs = stage.pixels.vectors, plan.blocks * plan.vectors
    pairs, entries = outputs * LANES // OUTPUTS, shape.steps / STEPS + 2
    entry = ENTRY_CYCLES * OUTPUTS * pixels + tiles
    farther = 1.0 if 4 * stage.tile_words <= site.target.near_bytes // 2 else 1.1
    add = pairs * (farther * entries * entry + PAIR_CYCLES * tiles)
    turn = plan.parts * TURN_CYCLES * pixels * stage.tile_words / stage.width / QUAD
    finish = FINISH_CYCLES * pixels * PIXELS * outputs
    table = round(4 * WORDS * pairs * entries)
    again = table * (plan.spans - 1) if table > site.target.cache_bytes else 0
    return site.output.codes.batch * (add + turn + finish + streamed_cycles(site, again))


FAMILY = Family("direct_pixels", (Conv2d,), candidates, refuses)


def build(site: Site, plan: Plan, layer: Layer) -> Call:
    """Return the call of a plan."""
    found = layer.entries
    assert isinstance(site.node, Conv2d)
    constants = start_and_factor(site.node.weight, site.inputs[0].q, site.output.q)
    start, factor = (np.pad(each, (0, layer.stored - len(each))) for each in constants)
    start = (start + found.constant.reshape(-1)).astype(np.int32)  # modulo 2**32, as the sums
    table, parts = _table(plan.stage, found)
    function = kernel(plan, table.size, site.finish)
    return site.call(function, (table, parts, start, factor))


def _table(stage: Stage, found: Entries) -> tuple[Array, Array]:
    """Return the entries as int32, and the parts of ``Memory`` [pairs, 3].

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
    begins = np.concatenate([[0], np.cumsum(WORDS + masked)])[found.ends[:-1:2]]
    counts = np.diff(found.ends).reshape(-1, 2)
    return rows[kept], np.column_stack([begins, counts]).astype(np.int32)


def _words(field: Array) -> Array:
    return np.ascontiguousarray(field.reshape(len(field), -1)).view(np.int32)


# --- the code ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """What the accumulators of a tile are computed from and where its sums go."""

    staged: Staged
    table: Buffer  # int32: entries
    places: Buffer  # the same memory as uint16
    parts: Buffer  # of each pair, where its entries begin, and how many have no mask and one
    start: Buffer  # int32 [outputs]
    sums: Buffer  # int32 [outputs of a block, pixels of a tile]


def kernel(plan: Plan, words: int, finish: Finish) -> PrimFunc:
    """Return ``f(x, [residual], table, parts, start, factor, outputs)``; a table has ``words``."""
    stage, shape = plan.stage, plan.stage.shape
    tiles, outputs = stage.pixels.tiles, shape.vectors * LANES
    per_part = -(-plan.blocks // plan.parts)

    def body(x_: Expr, *others: Expr) -> None:
        (table_, parts_, start_, factor_), rest = finish.split(others)
        x = view(x_, "int32", shape.x.size_bytes // 4)
        table, places = view(table_, "int32", words), view(table_, "uint16", 2 * words)
        parts = view(parts_, "int32", 3 * outputs // OUTPUTS)
        start = view(start_, "int32", outputs)
        end = rest.bind(factor_, outputs)
        with T.parallel(0, plan.parts * shape.x.batch * plan.spans) as item:
            part, image = item // (shape.x.batch * plan.spans), item // plan.spans % shape.x.batch
            first = item % plan.spans * stage.tiles
            count = T.min(T.int32(stage.tiles), tiles - first)
            staged = fill(stage, x, image, first, count)
            sums = scratch(plan.sums, "int32")
            memory = Memory(staged, table, places, parts, start, sums)
            blocks = T.min(T.int32(per_part), plan.blocks - part * per_part)
            with T.serial(0, blocks) as block:
                vector = inwards(part * per_part + block, plan.vectors, shape.vectors)
                with T.serial(0, count) as tile:
                    _tile(plan, memory, image, vector, first, tile, end)

    constants = (("table", "int32"), ("parts", "int32"), ("start", "int32"), ("factor", "float32"))
    return c_function(finish.parameters(("x", "int32"), constants), body)


def _tile(
    plan: Plan, memory: Memory, image: Expr, vector: Expr, first: Expr, tile: Expr, end: Bound
) -> None:
    """Compute the outputs of a block for one tile."""
    pixels = plan.stage.pixels

    def of(vectors: int) -> None:
        with T.serial(0, plan.vectors * LANES // OUTPUTS) as pair:
            _add_pair(plan, memory, vector * (LANES // OUTPUTS), pair, tile, vectors)
        with T.serial(0, vectors) as v:
            _finish(plan, memory, image, vector * LANES, tile, v, end)

    if pixels.larger == pixels.tiles:
        of(pixels.most)
        return
    with T.If(first + tile < pixels.larger):
        with T.Then():
            of(pixels.most)
        with T.Else():
            of(pixels.most - 1)


def _add_pair(
    plan: Plan, memory: Memory, first: Expr, pair: Expr, tile: Expr, vectors: int
) -> None:
    """Put the sums of two outputs into memory."""
    stage = plan.stage
    acc = [registers(vectors, f"int32x{LANES}") for _ in range(OUTPUTS)]
    for n, slots in enumerate(acc):
        (value,) = held([memory.start[(first + pair) * OUTPUTS + n]])
        for slot in slots:
            put(slot, splat(value, LANES))
    begin, plain, masked = held(
        [T.Cast("int64", memory.parts[3 * (first + pair) + n]) for n in range(3)]
    )
    place = tile * stage.tile_words
    with T.serial(T.int64(0), plain) as i:
        _add_entry(memory, begin + i * WORDS, place, acc, masked=False)
    with T.serial(T.int64(0), masked) as i:
        _add_entry(memory, begin + plain * WORDS + i * (WORDS + 1), place, acc, masked=True)
    for n, slots in enumerate(acc):
        for v, slot in enumerate(slots):
            place = (pair * OUTPUTS + n) * stage.width + v * PIXELS
            store(memory.sums, place, slot[0], LANES)


def _add_entry(
    memory: Memory, entry: Expr, tile: Expr, acc: list[list[Buffer]], *, masked: bool
) -> None:
    """Add the entry at ``entry`` to accumulators by output and vector of pixels."""
    dot, words = Narrow(LANES), memory.staged.codes
    *fields, last = (splat(memory.table[entry + n], LANES) for n in (*range(WORDS - 1), WORDS))
    weights, mask = held([_bytes(each) for each in fields]), held([last] if masked else [])
    there = 2 * (entry + WORDS - 1)
    places = held([tile + PLACE * T.Cast("int64", memory.places[there + k]) for k in range(STEPS)])
    for v in range(len(acc[0])):
        loaded = [load(words, place + v * PIXELS, LANES) for place in places]
        flipped = [reduce(T.bitwise_xor, mask, codes) for codes in loaded]
        codes = held([_bytes(each) for each in flipped])
        for n, slots in enumerate(acc):
            products = [dot.pairs([x], [weights[k * OUTPUTS + n]]) for k, x in enumerate(codes)]
            put(slots[v], slots[v][0] + dot.widen(reduce(add, products)))


def _bytes(words: Expr) -> Expr:
    return T.reinterpret(f"int8x{4 * LANES}", words)


def _finish(
    plan: Plan, memory: Memory, image: Expr, channel: Expr, tile: Expr, v: Expr, end: Bound
) -> None:
    """Turn the sums of a vector of pixels and finish them."""
    width = plan.stage.width
    by_pixel: list[list[Expr]] = [[] for _ in range(PIXELS)]
    for vector in range(plan.vectors):
        for half in range(0, PIXELS, QUAD):
            starts = [(vector * LANES + o) * width + v * PIXELS + half for o in range(LANES)]
            for k, acc in enumerate(turned(memory.sums, starts)):
                by_pixel[half + k].append(acc)
    staged, place = memory.staged, tile * width + v * PIXELS
    sums = [
        PixelSums((image, *held([staged.rows[place + i], staged.columns[place + i]])), acc)
        for i, acc in enumerate(by_pixel)
    ]
    end.put(sums, channel, LANES)
