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
MOST_OUTPUTS = 2  # vectors that are finished together
SUMS_BYTES = 4 * MOST_OUTPUTS * LANES * MOST_VECTORS * PIXELS  # beside the stage
FIELDS = OUTPUTS * STEPS + 1 + STEPS  # int32 of an entry: weights, the mask, places of the steps
ENTRY_CYCLES = 1.85  # of a vector of pixels and an output
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
    vectors = min(MOST_OUTPUTS, one.shape.vectors)
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
    stage, shape, batch = plan.stage, plan.stage.shape, site.output.codes.batch
    vectors, pairs = stage.pixels.vectors, shape.vectors * LANES // OUTPUTS
    rows = 1.0 if stage.tile_words * 4 <= site.target.near_bytes // 2 else 1.1
    step = (
        pairs * (shape.steps / STEPS + 2) * (ENTRY_CYCLES * OUTPUTS * vectors + stage.pixels.tiles)
    )
    turn = plan.parts * TURN_CYCLES * vectors * stage.tile_words / stage.width / QUAD
    finish = FINISH_CYCLES * vectors * PIXELS * shape.vectors
    weights = 4 * FIELDS * pairs * shape.steps // STEPS
    again = weights * (plan.spans - 1) if weights > site.target.cache_bytes else 0
    return batch * (rows * step + turn + finish + streamed_cycles(site, again))


FAMILY = Family("direct_pixels", (Conv2d,), candidates, refuses)


def build(site: Site, plan: Plan, layer: Layer) -> Call:
    """Return the call of a plan."""
    found = layer.entries
    assert isinstance(site.node, Conv2d)
    constants = start_and_factor(site.node.weight, site.inputs[0].q, site.output.q)
    start, factor = (np.pad(each, (0, layer.stored - len(each))) for each in constants)
    start = (start + found.constant.reshape(-1)).astype(np.int32)  # modulo 2**32, as the sums
    table = _table(plan.stage, found)
    function = kernel(plan, len(table), site.finish)
    return site.call(function, (table, found.ends.astype(np.int32), start, factor))


def _table(stage: Stage, found: Entries) -> Array:
    """Return int32 [entries, FIELDS]: weights by step and output, the mask, places in a tile."""
    shape = stage.shape
    tap, k = np.divmod(found.steps, shape.depth)
    places = (tap * stage.depth + k) * stage.width
    weights, mask = (
        part.reshape(len(places), -1).view(np.int32) for part in (found.weights, found.masks)
    )
    return np.concatenate([weights, mask, places.astype(np.int32)], axis=1)


# --- the code ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """What the accumulators of a tile are computed from and where its sums go."""

    staged: Staged
    table: Buffer  # int32 [entries, FIELDS]
    ends: Buffer  # int32 [1 + 2 * pairs]
    start: Buffer  # int32 [outputs]
    sums: Buffer  # int32 [outputs of a block, pixels of a tile]


def kernel(plan: Plan, entries: int, finish: Finish) -> PrimFunc:
    """Return ``f(x, [residual], table, ends, start, factor, outputs)``."""
    stage, shape = plan.stage, plan.stage.shape
    tiles, outputs = stage.pixels.tiles, shape.vectors * LANES
    per_part = -(-plan.blocks // plan.parts)

    def body(x_: Expr, *others: Expr) -> None:
        (table_, ends_, start_, factor_), rest = finish.split(others)
        x = view(x_, "int32", shape.x.size_bytes // 4)
        table = view(table_, "int32", entries * FIELDS)
        ends = view(ends_, "int32", 1 + 2 * outputs // OUTPUTS)
        start = view(start_, "int32", outputs)
        end = rest.bind(factor_, outputs)
        with T.parallel(0, plan.parts * shape.x.batch * plan.spans) as item:
            part, image = item // (shape.x.batch * plan.spans), item // plan.spans % shape.x.batch
            first = item % plan.spans * stage.tiles
            count = T.min(T.int32(stage.tiles), tiles - first)
            staged = fill(stage, x, image, first, count)
            memory = Memory(staged, table, ends, start, scratch(plan.sums, "int32"))
            blocks = T.min(T.int32(per_part), plan.blocks - part * per_part)
            with T.serial(0, blocks) as block:
                vector = inwards(part * per_part + block, plan.vectors, shape.vectors)
                with T.serial(0, count) as tile:
                    _tile(plan, memory, image, vector, first, tile, end)

    constants = (("table", "int32"), ("ends", "int32"), ("start", "int32"), ("factor", "float32"))
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
    for masked in (False, True):
        part = 2 * (first + pair) + masked
        begin, end = (T.Cast("int64", memory.ends[part + n]) for n in range(2))
        with T.serial(T.int64(0), end - begin) as i:
            _add_entry(memory, (begin + i) * FIELDS, tile * stage.tile_words, acc, masked)
    for n, slots in enumerate(acc):
        for v, slot in enumerate(slots):
            place = (pair * OUTPUTS + n) * stage.width + v * PIXELS
            store(memory.sums, place, slot[0], LANES)


def _add_entry(
    memory: Memory, entry: Expr, tile: Expr, acc: list[list[Buffer]], masked: bool
) -> None:
    """Add one entry to accumulators by output and vector of pixels."""
    dot, words = Narrow(LANES), memory.staged.codes
    fields = [memory.table[entry + n] for n in range(FIELDS)]
    weights = held([_bytes(splat(each, LANES)) for each in fields[: STEPS * OUTPUTS]])
    mask = held([splat(each, LANES) for each in fields[STEPS * OUTPUTS : -STEPS] if masked])
    places = held([tile + each for each in fields[-STEPS:]])
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
