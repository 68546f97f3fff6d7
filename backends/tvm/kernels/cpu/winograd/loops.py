"""The loops of Winograd convolution: transform a block of input, multiply, transform the sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import PixelSums
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import BoundEpilogue, Epilogue
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    LINE,
    Buffer,
    Expr,
    c_function,
    cast,
    clamped_start,
    in_registers,
    load,
    scratch,
    splat,
    store,
    vector,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.prefetch import WeightPrefetch
from gmpq.backends.tvm.kernels.cpu.winograd.adder_graph import both_sides
from gmpq.backends.tvm.kernels.cpu.winograd.dot import DotProduct
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import RUN, ProductMemory
from gmpq.backends.tvm.kernels.cpu.winograd.shape import Schedule, WinogradShape
from gmpq.backends.tvm.kernels.cpu.winograd.space_to_depth import kept_lanes
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import Transform
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import NextWeights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import ByteProduct
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes_loops import multiply as multiply_bytes
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR

PREFETCH_BYTES = 8 << 10  # bytes from the weights that are multiplied to those that are asked for


def kernel(schedule: Schedule, offsets: tuple[int, ...], epilogue: Epilogue) -> PrimFunc:
    """Return ``f(x, [residual], setup, weights, start, factor, outputs)``."""
    shape, product, on_the_fly = schedule.shape, schedule.product, schedule.on_the_fly
    blocks, groups, parts = -(-shape.all_tiles // shape.tiles), schedule.groups, schedule.parts
    share, outputs = schedule.share, product.all_vectors * product.lanes
    dtype = product.dtype if on_the_fly is None else "uint8"
    table_size = product.table_size if isinstance(product, ByteProduct | DotProduct) else 1

    def body(x_: Expr, *others: Expr) -> None:
        (setup, u_, start_, factor_), arguments = epilogue.split(others)
        x = view(x_, "uint8", shape.x.size_bytes)
        table = view(setup, "int32", table_size)
        weights = view(u_, dtype, schedule.weights_elements)
        start = view(start_, "int32", shape.transform.size**2 * outputs)
        bound = arguments.bind(factor_, outputs)
        with T.parallel(0, schedule.tasks) as item:
            section, block = item % parts, item // parts
            image, first = (
                block // blocks,
                clamped_start(block % blocks, shape.tiles, shape.all_tiles),
            )
            v = scratch(schedule.input_elements + VECTOR, "int32")
            m = scratch(schedule.sums, "int32")
            u = weights if on_the_fly is None else scratch(schedule.kept_weights, product.dtype)
            product.begin(setup)
            _transform_input(schedule, x, v, offsets, (image, first))
            first_group = clamped_start(section, share, groups)
            if on_the_fly is not None and on_the_fly.interleaved:
                on_the_fly.write(weights, u, first_group)
            with T.serial(0, share) as member:
                group = first_group + member
                memory = ProductMemory(v, u, m, table, group)
                _multiply(schedule, _with_weights(schedule, memory, weights, member))
                first_vector = clamped_start(group, product.vectors, product.all_vectors)
                _transform_output(schedule, m, (start, bound), (image, first, first_vector))
            product.end()

    u_and_start = (("u", dtype), ("start", "int32"))
    constant = (("setup", "int32"), *u_and_start, ("factor", "float32"))
    return c_function(epilogue.parameters(("x", "uint8"), constant), body)


def _with_weights(
    schedule: Schedule, memory: ProductMemory, weights: Buffer, member: Expr
) -> ProductMemory:
    """Return ``memory`` with the group's weights, and with what products do for later ones.

    ``member`` is the number of the group in its part; ``weights`` are those in memory.
    """
    on_the_fly, group = schedule.on_the_fly, memory.group
    if on_the_fly is None:
        first = group * schedule.group_elements
        return replace(memory, first=first, prefetch=_weight_prefetch(schedule, weights, group))
    if not on_the_fly.interleaved:
        on_the_fly.write(weights, memory.u, group)
        return replace(memory, prefetch=_weight_prefetch(schedule, weights, group))
    assert isinstance(schedule.product, DotProduct)
    first, start = (n % 2 * on_the_fly.elements for n in (member, member + 1))
    chunks = T.if_then_else(member + 1 < schedule.share, on_the_fly.chunks, 0)
    tiles = schedule.shape.transform.positions * schedule.product.row_blocks
    following = NextWeights(on_the_fly, weights, memory.u, start, group + 1, chunks, tiles)
    return replace(memory, first=first, following=following)


def _weight_prefetch(schedule: Schedule, weights: Buffer, group: Expr) -> WeightPrefetch | None:
    """Return the weights that the products of a group ask for as they multiply.

    Packed ones are those of the next group; others those that follow soon, unless the second-level
    cache has them from the last block of tiles.
    """
    product, item = schedule.product, schedule.weights_bytes // schedule.weights_elements
    if not schedule.prefetches_weights:
        return None
    assert isinstance(product, DotProduct | ByteProduct)
    size = schedule.weights_elements // schedule.groups
    distance = size if schedule.on_the_fly is not None else PREFETCH_BYTES // item
    tiles = schedule.shape.transform.positions * product.row_blocks
    lines = -(-size * item // (tiles * LINE))
    return WeightPrefetch(weights, group * size + distance, lines, LINE // item)


def _multiply(schedule: Schedule, memory: ProductMemory) -> None:
    """Write M of all positions for one group of outputs."""
    positions, product = schedule.shape.transform.positions, schedule.product
    if isinstance(product, ByteProduct):
        multiply_bytes(product, memory, memory.first)
        return

    def weights(part: Expr) -> Expr:
        pitch = product.block_elements if schedule.on_the_fly is None else schedule.on_the_fly.pitch
        return memory.first + part * pitch

    with T.serial(0, positions) as position:
        product.multiply(memory, (position, weights(position)), more=False)
    for extra, position in enumerate(schedule.shape.splits):
        product.multiply(memory, (position, weights(positions + extra)), more=True)


def _corner(shape: WinogradShape, tile: Expr) -> tuple[Expr, Expr]:
    """Return the first output row and column of a tile."""
    size = shape.transform.size
    row = clamped_start(tile // shape.across, size, shape.y.height)
    return row, clamped_start(tile % shape.across, size, shape.y.width)


def _tile(schedule: Schedule, number: Expr) -> Expr:
    """Return a tile of a block; the last one twice where it would be multiplied alone."""
    tiles = schedule.shape.tiles
    return number if schedule.product.tiles == tiles else T.min(number, tiles - 1)


def _place(schedule: Schedule, tile: Expr, channel: Expr) -> Expr:
    """Return where codes of a tile lie within a position of V."""
    together, stored = schedule.product.together, schedule.product.stored
    if together == 1:
        return tile * stored + channel
    run = channel // RUN * together + tile % together
    return tile // together * (together * stored) + run * RUN + channel % RUN


def _transform_input(
    schedule: Schedule, x: Buffer, v: Buffer, offsets: tuple[int, ...], at: tuple[Expr, Expr]
) -> None:
    shape, group = schedule.shape, schedule.product.group
    t, layout = shape.transform, shape.x
    image, first = at
    code = "uint8" if group == GROUP else "int16"
    lanes = _lanes(schedule)
    down, across = shape.fold * layout.row, shape.fold * layout.stored  # to the next pixel
    run = lanes if schedule.product.together == 1 else min(lanes, RUN)
    with T.grid(schedule.product.tiles, -(-shape.stored // lanes)) as (tile, part):
        row, column = _corner(shape, first + _tile(schedule, tile))
        corner = layout.origin + image * layout.image + part * lanes
        corner += row * (t.stride * down) - shape.padding[0] * layout.row
        corner += column * (t.stride * across) - shape.padding[1] * layout.stored
        d = [
            [
                cast(code, lanes, _pixel(shape, x, corner + i * down + j * across, lanes))
                for j in range(t.reach)
            ]
            for i in range(t.reach)
        ]
        for position, value in enumerate(chain.from_iterable(both_sides(t.input, d))):
            if offsets[position] % 256:
                value = value + splat(T.uint8(offsets[position] % 256), lanes)
            (words,) = in_registers([T.reinterpret(vector("int32", lanes // group), value)])
            for lane in range(0, lanes, run):
                place = T.floordiv(_place(schedule, tile, part * lanes + lane), group)
                some = words if run == lanes else _part(words, lane // group, run // group)
                store(v, position * schedule.product.input_pitch + place, some, run // group)


def _part(words: Expr, first: int, count: int) -> Expr:
    return T.Shuffle([words], [*range(first, first + count)])


def _pixel(shape: WinogradShape, x: Buffer, place: Expr, lanes: int) -> Expr:
    """Return codes of one pixel; a folded one has a run of codes in each of its rows."""
    if shape.fold == 1:
        return load(x, place, lanes)
    run = lanes // shape.fold
    rows = [load(x, place + p * shape.x.row, run) for p in range(shape.fold)]
    return T.Shuffle(rows, kept_lanes(shape.x.channels))


def _lanes(schedule: Schedule) -> int:
    """Return the codes that are transformed at once.

    The last of a folded pixel's sixteen may be another pixel's: the next tile overwrites them.
    """
    if schedule.shape.fold > 1:
        return schedule.shape.fold * schedule.shape.fold * GROUP
    sizes = (
        n for n in (64, 32, 16, 8, GROUP) if n <= schedule.product.group * schedule.product.lanes
    )
    return next(n for n in sizes if schedule.shape.stored % n == 0)


def _transform_output(
    schedule: Schedule,
    m: Buffer,
    start_and_epilogue: tuple[Buffer, BoundEpilogue],
    at: tuple[Expr, Expr, Expr],
) -> None:
    shape, product, (start, bound) = schedule.shape, schedule.product, start_and_epilogue
    lanes, together = product.lanes, product.together
    image, first, first_vector = at
    with T.grid(product.tiles // together, product.vectors) as (number, n):
        place = (number * product.vectors + n) * (together * lanes)
        vectors = [_sums(schedule, m, place + i * lanes) for i in range(together)]
        tiles = [_tile(schedule, number * together + i) for i in range(together)]
        corners = [_corner(shape, first + tile) for tile in tiles]
        channel, outputs = (first_vector + n) * lanes, []
        for i, j, values in _by_tile(vectors):
            pixel = (i * shape.transform.size + j) * (product.all_vectors * lanes)
            first_sums = load(start, pixel + channel, lanes)
            for (row, column), value in zip(corners, values, strict=True):
                total = _divided(value + first_sums, shape.transform, lanes)
                outputs.append(PixelSums((image, row + i, column + j), [total]))
        bound.store(outputs, channel, lanes)


def _divided(value: Expr, transform: Transform, lanes: int) -> Expr:
    """Return ``value`` over the odd part of the scale, which divides it: its inverse modulo 2**32.

    The power of two is left to the factor: float32 holds both to the same digits.
    """
    inverse = transform.inverse
    return value if inverse == 1 else value * splat(T.int32(inverse), lanes)


def _sums(schedule: Schedule, m: Buffer, place: Expr) -> list[tuple[int, int, Expr]]:
    """Return row, column and sums of every output of the vector at ``place``."""
    t, lanes, pitch = (
        schedule.shape.transform,
        schedule.product.lanes,
        schedule.product.output_pitch,
    )
    sums = [
        [load(m, (i * t.points + j) * pitch + place, lanes) for j in range(t.points)]
        for i in range(t.points)
    ]
    rows = enumerate(both_sides(t.output, sums))
    return [(i, j, value) for i, row in rows for j, value in enumerate(row)]


def _by_tile(vectors: list[list[tuple[int, int, Expr]]]) -> Iterator[tuple[int, int, list[Expr]]]:
    """Yield row, column and the sums of every tile; two vectors hold two outputs of both tiles."""
    for same in zip(*vectors, strict=True):
        i, j, _ = same[0]
        values = [value for _, _, value in same]
        yield i, j, values if len(values) == 1 else _by_halves(*in_registers(values))


def _by_halves(a: Expr, b: Expr) -> list[Expr]:
    """Return the first halves of two vectors of four lanes, and their second halves."""
    return [T.Shuffle([a, b], [i, i + 1, i + 4, i + 5]) for i in (0, 2)]
