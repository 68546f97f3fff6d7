"""The loops of the implicit matrix product.

A row of A is the window of one output pixel: in memory its taps lie at offsets that are the same
for all pixels, halo included, so a thread computes the places of its rows once and adds the offset
of a step. Pixels beyond the last one are read again, and not stored. With ``cp.async`` step
``s + stages - 1`` is under way while step ``s`` is multiplied; without it, the next step waits in
registers, and there are two buffers.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.gpu.epilogue.epilogue import Epilogue
from gmpq.backends.tvm.kernels.gpu.isa import instructions
from gmpq.backends.tvm.kernels.gpu.isa.borders import Border
from gmpq.backends.tvm.kernels.gpu.isa.builder import (
    Buffer,
    Expr,
    Grid,
    kernel,
    local,
    register,
    run,
    store,
    view,
)
from gmpq.backends.tvm.kernels.gpu.mma.block import Block, Memory
from gmpq.backends.tvm.kernels.gpu.mma.shape import Shape
from gmpq.backends.tvm.kernels.gpu.mma.tile import SEGMENT, Tile, swizzled

REGISTERS = 4  # of 32 bits, that hold a segment
K = 32  # bytes of K of one product


def implicit_gemm(
    shape: Shape,
    tile: Tile,
    epilogue: Epilogue,
    borders: tuple[Border, ...],
    *,
    asynchronous: bool,
) -> PrimFunc:
    """Return the kernel of a layer."""
    blocks_m, blocks_n = -(-shape.pixels // tile.bm), -(-shape.outputs // tile.bn)
    channels = blocks_n * tile.bn

    def body(block_m: Expr, block_n: Expr, thread: Expr, x_: Expr, *pointers: Expr) -> None:
        (weights_, start_, factor_), results = epilogue.bind(pointers)
        start, factor = view(start_, "int32", channels), view(factor_, "float32", channels)
        memory = Memory(
            view(x_, "uint8", shape.x.size_bytes),
            view(weights_, "uint8", channels * shape.depth * tile.weight_bits // 8),
            T.alloc_buffer((tile.buffer_bytes,), "uint8", scope="shared"),
        )
        copies = tile.bm * tile.bk // (SEGMENT * tile.threads)
        block = Block(*(shape, tile, asynchronous, memory), block_n, thread, local(copies, "int32"))
        for i in range(copies):
            row, segment = block.chunk(i) // block.a_segments, block.chunk(i) % block.a_segments
            pixel = register(T.min(block_m * tile.bm + row, T.int32(shape.pixels - 1)))
            store(block.rows, i, shape.window_start(shape.pixel(pixel)) + segment * SEGMENT)
        first = register(block_n * tile.bn + block.warp_n + block.lane % 4 * tile.own)
        sums = _started(tile, start, first)
        _steps(block, sums)

        def finish(pixel: Expr, own: list[Expr]) -> None:
            factors = [register(factor[first + i], "float32") for i in range(tile.own)]
            results.finish(shape.pixel(pixel), first, own, factors)

        stored = first < shape.y.stored  # a block may have more outputs
        _for_each_pixel(block, block_m, sums, stored, finish)

    constants = (("w", "uint8"), ("start", "int32"), ("factor", "float32"))
    parameters = epilogue.parameters(("x", "uint8"), constants)
    return kernel(parameters, Grid(blocks_m, blocks_n, tile.threads), body, borders)


def _place(tile: Tile, m: int, j: int, half: int, e: int) -> int:
    """Return the accumulator of row ``m, half`` and column ``j, e`` of a warp's tile."""
    return (m * (tile.wn // 8) + j) * 4 + half * 2 + e


def _started(tile: Tile, start: Buffer, first: Expr) -> Buffer:
    """Return the accumulators of a thread, from the starts of its outputs."""
    sums = local(tile.wm // 16 * (tile.wn // 8) * 4, "int32")
    for j in range(tile.wn // 8):
        for e in range(2):
            value = register(start[first + 2 * j + e])
            for m in range(tile.wm // 16):
                for half in range(2):
                    store(sums, _place(tile, m, j, half, e), value)
    return sums


def _for_each_pixel(
    block: Block,
    block_m: Expr,
    sums: Buffer,
    stored: Expr,
    finish: Callable[[Expr, list[Expr]], None],
) -> None:
    """Run ``finish`` with each pixel and the accumulators of the thread's own outputs."""
    tile = block.tile
    for m in range(tile.wm // 16):
        for half in range(2):
            pixel = register(block_m * tile.bm + block.warp_m + m * 16 + half * 8 + block.lane // 4)
            own = [sums[_place(tile, m, c // 2, half, c % 2)] for c in range(tile.own)]
            with T.If(T.And(pixel < block.shape.pixels, stored)), T.Then():
                finish(pixel, own)


def _steps(block: Block, sums: Buffer) -> None:
    """Add the products of all steps."""
    if block.asynchronous:
        _asynchronous_steps(block, sums)
    else:
        _steps_by_registers(block, sums)


def _asynchronous_steps(block: Block, sums: Buffer) -> None:
    stages, steps = block.tile.stages, block.shape.steps(block.tile.bk)
    for step in range(stages - 1):
        if step < steps:
            _copy(block, step, step)
        run("commit", source=instructions.COMMIT)
    name, source = instructions.wait(stages - 2)
    with T.serial(0, steps, unroll=False) as step:
        run(name, source=source)
        T.evaluate(T.tvm_storage_sync("shared"))
        ahead = register(step + (stages - 1))
        with T.If(ahead < steps), T.Then():
            _copy(block, ahead, ahead % stages)
        run("commit", source=instructions.COMMIT)
        _products(block, register(block.buffer(step % stages)), sums)


def _for_segments(
    block: Block, step: Expr, slot: Expr, move: Callable[[int, Expr, Expr], None]
) -> None:
    """Run ``move`` for each segment that the thread has in a step: number, to, and from where."""
    for i, (to, source) in enumerate(block.segments(step, slot)):
        inside = block.in_step(i)
        if inside is None:
            move(i, to, source)
        else:
            with T.If(inside), T.Then():
                move(i, to, source)


def _copy(block: Block, step: Expr, slot: Expr) -> None:
    def move(i: int, to: Expr, source: Expr) -> None:
        if block.shape.by_rows and i < block.a_copies:  # windows begin at any word
            run("copy4x4", to, source, source=instructions.COPY4X4)
        else:
            run("copy16", to, source, source=instructions.COPY16)

    _for_segments(block, step, slot, move)


def _steps_by_registers(block: Block, sums: Buffer) -> None:
    steps = block.shape.steps(block.tile.bk)
    waiting = local((block.a_copies + block.b_copies) * REGISTERS, "uint32")
    _load(block, 0, waiting)
    _store(block, 0, 0, waiting)
    with T.serial(0, steps, unroll=False) as step:
        T.evaluate(T.tvm_storage_sync("shared"))
        ahead = register(step + 1)
        with T.If(ahead < steps), T.Then():
            _load(block, ahead, waiting)
        _products(block, register(block.buffer(step % 2)), sums)
        with T.If(ahead < steps), T.Then():
            _store(block, ahead, ahead % 2, waiting)


def _load(block: Block, step: Expr, waiting: Buffer) -> None:
    def move(i: int, _to: Expr, source: Expr) -> None:
        segment = [waiting[i * REGISTERS + word] for word in range(REGISTERS)]
        if block.shape.by_rows and i < block.a_copies:
            run("load4x4", *segment, source, source=instructions.LOAD4X4)
        else:
            run("load16", *segment, source, source=instructions.LOAD16)

    _for_segments(block, step, 0, move)


def _store(block: Block, step: Expr, slot: Expr, waiting: Buffer) -> None:
    def move(i: int, to: Expr, _source: Expr) -> None:
        segment = [waiting[i * REGISTERS + word] for word in range(REGISTERS)]
        run("store16", to, *segment, source=instructions.STORE16)

    _for_segments(block, step, slot, move)


def _products(block: Block, at: Expr, sums: Buffer) -> None:
    """Add the products of one step, whose buffer begins at ``at``."""
    tile, weights_at = block.tile, register(at + block.tile.bm * block.tile.bk)
    words = _words(block, weights_at) if tile.weight_bits == 4 else None
    for k in range(tile.bk // K):
        a, b = local(tile.wm // 4, "uint32"), local(tile.wn // 4, "uint32")
        for m in range(tile.wm // 16):
            row = block.warp_m + m * 16 + block.lane % 8 + block.lane // 8 % 2 * 8
            registers = [a[4 * m + i] for i in range(4)]
            _fragment(block, (at, tile.bk), row, 2 * k + block.lane // 16, registers)
        if words is None:
            _weights(block, weights_at, k, b)
        else:
            for j in range(tile.wn // 8):
                halves = b[2 * j], b[2 * j + 1]
                run("halves", *halves, words[2 * j + k], source=instructions.HALVES)
        _multiply(block, a, b, sums)


def _weights(block: Block, at: Expr, k: int, b: Buffer) -> None:
    """Load the weights of 32 bytes of K: two registers of every eight outputs."""
    tile = block.tile
    for j in range(0, tile.wn // 8, 2):
        row = block.warp_n + j * 8 + block.lane % 8 + block.lane // 16 * 8
        registers = [b[2 * j + i] for i in range(4)]
        _fragment(block, (at, tile.bk), row, 2 * k + block.lane // 8 % 2, registers)


def _words(block: Block, at: Expr) -> Buffer:
    """Return the weights of 64 bytes of K at four bits: two registers of every eight outputs."""
    tile = block.tile
    words = local(tile.wn // 4, "uint32")
    for j in range(0, tile.wn // 8, 2):
        row = block.warp_n + j * 8 + block.lane % 8 + block.lane // 16 * 8
        registers = [words[2 * j + i] for i in range(4)]
        _fragment(block, (at, tile.weights_row), row, block.lane // 8 % 2, registers)
    return words


def _multiply(block: Block, a: Buffer, b: Buffer, sums: Buffer) -> None:
    tile = block.tile
    name, source = (
        ("mma_u8s8", instructions.MMA_U8S8)
        if block.asynchronous
        else ("mma_u8s8_small", instructions.MMA_U8S8_SMALL)
    )
    for m in range(tile.wm // 16):
        for j in range(tile.wn // 8):
            four = [sums[_place(tile, m, j, 0, 0) + i] for i in range(4)]
            rows = [a[4 * m + i] for i in range(4)]
            run(name, *four, *rows, b[2 * j], b[2 * j + 1], source=source)


def _fragment(
    block: Block, rows: tuple[Expr, int], row: Expr, segment: Expr, registers: list[Expr]
) -> None:
    """Load four 8x8 matrices of 16-bit elements, a row of each by eight lanes.

    ``rows`` are the place of the first row in shared memory, and the bytes of each.
    """
    at, size = rows
    row = register(row)
    place = at + row * size + swizzled(row, segment, size // SEGMENT) * SEGMENT
    address = T.address_of(block.memory.shared[place])
    run("ldmatrix_x4", *registers, address, source=instructions.LDMATRIX)
