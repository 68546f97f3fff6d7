"""Exact integer Winograd convolution of 3x3 kernels; ``winograd_algebra`` has the proof.

A block of tiles goes through three stages that stay in the caches of one core:

    V[position, tile, channel]   = B^T d B + offset     uint8, or int16 without an offset
    M[position, tile, output]    = V x U + start        int32, by dot products or by AMX tiles
    Y                            = A^T M A              requantized, two (three, four) rows at once

``start`` holds -offset * (sum of U); the position of the point 1 adds to every output with one
coefficient, and brings the bias and the correction for the zero point.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.epilogue import Bound, Finish
from gmpq.backends.tvm.groups import PixelSums
from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family, Site, streamed_cycles
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.kernels.winograd_algebra import (
    TRANSFORMS,
    Proof,
    Transform,
    prove,
    prove_words,
)
from gmpq.backends.tvm.kernels.winograd_dots import dot_for
from gmpq.backends.tvm.kernels.winograd_product import Product, fitted
from gmpq.backends.tvm.kernels.winograd_shape import Shape
from gmpq.backends.tvm.kernels.winograd_sums import (
    ONE,
    WORD,
    additions,
    both_sides,
    divided,
    odd_part,
    share_of_bias,
)
from gmpq.backends.tvm.layout import GROUP, VECTOR
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    c_function,
    cast,
    inwards,
    load,
    scratch,
    splat,
    store,
    vector,
    view,
)
from gmpq.ir import Conv2d

SCRATCH_BYTES = 512 << 10  # on the stack of a thread, in its second-level cache
MOST_TILES = 64


def refuses(site: Site) -> str | None:
    """Return why no transform can compute the site exactly."""
    node = site.node
    assert isinstance(node, Conv2d)
    window = node.window
    if (window.kernel, window.stride, window.dilation) != ((3, 3), (1, 1), (1, 1)):
        return "needs a 3x3 kernel of stride and dilation 1"
    if node.groups > 1:
        return "needs one group"
    if not site.target.features & {"avx2", "amx-int8"}:
        return "needs AVX2 or AMX"
    found = [proof for transform in TRANSFORMS for proof in _proofs(site, transform)]
    reasons = [reason for reason in found if isinstance(reason, str)]
    return None if len(reasons) < len(found) else reasons[0]


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return every transform that fits, with its best sizes of a block of tiles."""
    found = []
    for transform in TRANSFORMS:
        for proof in _proofs(site, transform):
            if isinstance(proof, Proof):
                found += _sized(site, transform, proof)
    return tuple(sorted(found, key=lambda candidate: candidate.cycles))


FAMILY = Family("winograd", (Conv2d,), candidates, refuses)


def _proofs(site: Site, transform: Transform) -> list[Proof | str]:
    """Return the proofs for bytes and for int16, or why they fail; AMX has tiles of bytes only."""
    assert isinstance(site.node, Conv2d)
    y = site.output.codes
    if min(y.height, y.width) < transform.size:
        return [f"{transform} needs {transform.size} rows and columns, has {y.height}x{y.width}"]
    found = [prove(site.node, site.inputs[0].q, transform)]
    if "amx-int8" not in site.target.features:
        found.append(prove_words(site.node, site.inputs[0].q, transform))
    return found


def _sized(site: Site, transform: Transform, proof: Proof) -> list[Candidate]:
    node, x, y = site.node, site.inputs[0].codes, site.output.codes
    assert isinstance(node, Conv2d)
    padding = node.window.padding
    everything = Shape(transform, x, y, (padding.top, padding.left), 1, proof.splits)
    sizes = {-(-everything.all_tiles // n) for n in range(1, everything.all_tiles + 1)}
    dot = dot_for(site.target, x, proof)
    found = []
    for tiles in sorted(size for size in sizes if size <= MOST_TILES):
        shape = Shape(transform, x, y, (padding.top, padding.left), tiles, proof.splits)
        for method in fitted(site.target, dot, tiles, x, y):
            if shape.scratch_bytes(method) <= SCRATCH_BYTES:
                name = f"{transform}, {tiles} tiles, {method}"
                cycles = _cycles(site, shape, method)
                found.append(Candidate(name, cycles, partial(build, site, shape, method, proof)))
    return sorted(found, key=lambda candidate: candidate.cycles)[:4]


def _cycles(site: Site, shape: Shape, product: Product) -> float:
    """Return predicted cycles: additions, loads and stores of the transforms, and products."""
    t = shape.transform
    terms = additions(t.input, t.reach) + 3 * t.positions
    vectors = -(-shape.x.stored // (product.group * product.lanes))
    inputs = shape.parts(product) * shape.tiles * vectors * terms / 2.5
    terms = additions(t.output, t.reach) + t.positions + t.size * t.size * 8
    outputs = shape.tiles * product.all_vectors * terms / 2.5
    passes = t.positions + len(shape.splits)
    size = product.weight_elements(passes) * np.dtype(product.dtype).itemsize
    reads = shape.blocks if size > site.target.cache_bytes else 1
    computed = inputs + outputs + passes * product.cycles()
    return shape.blocks * computed + reads * streamed_cycles(size)


def build(site: Site, shape: Shape, product: Product, proof: Proof) -> Call:
    """Return the call of one transform and block size."""
    (x,), node, y = site.inputs, site.node, site.output
    assert isinstance(node, Conv2d)
    start, factor = start_and_factor(node.weight, x.q, y.q)
    starts = -proof.offsets[:, None] * proof.sums
    one = ONE * shape.transform.reach + ONE
    starts[one] += share_of_bias(shape.transform) * start.astype(np.int64)
    missing = (0, product.all_vectors * product.lanes - y.codes.channels)
    wrapped = ((starts + WORD // 2) % WORD - WORD // 2).astype(np.int32)  # modulo 2**32
    constants = (
        product.setup(),
        product.pack(proof.weights),
        np.pad(wrapped, ((0, 0), missing)),
        np.pad(_undone(factor, shape.transform), missing),
    )
    function = kernel(shape, product, tuple(proof.offsets.tolist()), site.finish)
    return site.call(function, constants)


def _undone(factor: Array, transform: Transform) -> Array:
    """Return the factor over a scale that is a power of two: float32 divides by it exactly."""
    return factor if odd_part(transform) > 1 else factor / np.float32(transform.scale)


# --- the code ------------------------------------------------------------------------------------


def kernel(shape: Shape, product: Product, offsets: tuple[int, ...], finish: Finish) -> PrimFunc:
    """Return ``f(x, [residual], setup, weights, start, factor, outputs)``."""
    t, blocks = shape.transform, -(-shape.all_tiles // shape.tiles)
    groups, parts = shape.groups(product), shape.parts(product)
    share, outputs = -(-groups // parts), product.all_vectors * product.lanes

    def body(x_: Expr, *others: Expr) -> None:
        (setup, u_, start_, factor_), ends = finish.split(others)
        x = view(x_, "uint8", shape.x.size_bytes)
        u = view(u_, product.dtype, product.weight_elements(t.positions + len(shape.splits)))
        start = view(start_, "int32", t.positions * outputs)
        end = ends.bind(factor_, outputs)
        with T.parallel(0, shape.blocks * parts) as item:
            section, block = item % parts, item // parts
            image, first = block // blocks, inwards(block % blocks, shape.tiles, shape.all_tiles)
            v = scratch(shape.words(product) + VECTOR, "int32")
            m = scratch(shape.sums(product), "int32")
            product.begin(setup)
            _transform_input(shape, product, x, v, offsets, (image, first))
            with T.serial(0, share) as member:
                group = inwards(section, share, groups) + member
                first_vector = inwards(group, product.vectors, product.all_vectors)
                with T.serial(0, t.positions) as position:
                    product.multiply(
                        v, u, start, m, (position, position, group, first_vector), more=False
                    )
                for extra, position in enumerate(shape.splits):
                    part = t.positions + extra
                    product.multiply(
                        v, u, start, m, (position, part, group, first_vector), more=True
                    )
                _transform_output(shape, product, m, end, (image, first, first_vector))
            product.end()

    u_and_start = (("u", product.dtype), ("start", "int32"))
    constant = (("setup", "uint8"), *u_and_start, ("factor", "float32"))
    return c_function(finish.parameters(("x", "uint8"), constant), body)


def _corner(shape: Shape, tile: Expr) -> tuple[Expr, Expr]:
    """Return the first output row and column of a tile."""
    size = shape.transform.size
    row = inwards(tile // shape.across, size, shape.y.height)
    return row, inwards(tile % shape.across, size, shape.y.width)


def _transform_input(
    shape: Shape,
    product: Product,
    x: Buffer,
    v: Buffer,
    offsets: tuple[int, ...],
    at: tuple[Expr, Expr],
) -> None:
    t, layout, group = shape.transform, shape.x, product.group
    image, first = at
    code = "uint8" if group == GROUP else "int16"
    sizes = (n for n in (64, 32, 16, 8, GROUP) if n <= group * product.lanes)
    lanes = next(n for n in sizes if layout.stored % n == 0)
    with T.grid(shape.tiles, layout.stored // lanes) as (tile, part):
        row, column = _corner(shape, first + tile)
        corner = layout.origin + image * layout.image + part * lanes
        corner += (row - shape.padding[0]) * layout.row
        corner += (column - shape.padding[1]) * layout.stored
        d = [
            [
                cast(code, lanes, load(x, corner + i * layout.row + j * layout.stored, lanes))
                for j in range(t.reach)
            ]
            for i in range(t.reach)
        ]
        for i, j, value in both_sides(t.input, d, f"{code}x{lanes}"):
            position = i * t.reach + j
            if offsets[position] % 256:
                value = value + splat(T.uint8(offsets[position] % 256), lanes)
            place = (position * shape.tiles + tile) * layout.stored + part * lanes
            words = T.reinterpret(vector("int32", lanes // group), value)
            store(v, T.floordiv(place, group), words, lanes // group)


def _transform_output(
    shape: Shape, product: Product, m: Buffer, end: Bound, at: tuple[Expr, Expr, Expr]
) -> None:
    t, lanes = shape.transform, product.lanes
    image, first, first_vector = at
    with T.grid(shape.tiles, product.vectors) as (tile, n):
        row, column = _corner(shape, first + tile)
        place = (tile * product.vectors + n) * lanes
        stride = shape.tiles * product.vectors * lanes
        sums = [
            [load(m, (i * t.reach + j) * stride + place, lanes) for j in range(t.reach)]
            for i in range(t.reach)
        ]
        channel = (first_vector + n) * lanes
        outputs = [
            PixelSums((image, row + i, column + j), [divided(value, t, lanes)])
            for i, j, value in both_sides(t.output, sums, f"int32x{lanes}")
        ]
        end.put(outputs, channel, lanes)
