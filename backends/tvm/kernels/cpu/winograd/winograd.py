"""Exact integer Winograd convolution; ``proof`` proves it layer by layer.

A block of tiles goes through three stages that stay in the caches of one core (``loops``):

    V[position, tile, channel]   = B^T d B + offset     bytes, or int16 without an offset
    M[position, tile, output]    = V x U                int32, by dot products or by matrices
    Y                            = A^T M A + start      requantized, a tile's pixels at once

``start`` holds the bias, the correction for the zero point and, by pixel of a tile, what the
offsets add: A^T (offset * sum of U) A.

U lies in memory; or, where all tiles of an image are one block, each task transforms the kernels
that it needs (``weights_on_the_fly``). A few channels of stride 2 are seen as sixteen of stride 1
(``space_to_depth``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, refuses_dense, streamed_cycles
from gmpq.backends.tvm.kernels.cpu.winograd.adder_graph import both_counts
from gmpq.backends.tvm.kernels.cpu.winograd.loops import kernel
from gmpq.backends.tvm.kernels.cpu.winograd.products import (
    alternates,
    exact_choices,
    instruction_for,
    overflow_repeats,
    overflows,
    packed,
    tile_choices,
)
from gmpq.backends.tvm.kernels.cpu.winograd.proof import (
    INT8_MAX,
    Proof,
    exceeds,
    in_two_bytes,
    prove,
    prove_int16,
    scaled_down,
    scaled_up,
    signed,
    split,
)
from gmpq.backends.tvm.kernels.cpu.winograd.shape import Schedule, WinogradShape, interleaved
from gmpq.backends.tvm.kernels.cpu.winograd.space_to_depth import space_to_depth
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import TRANSFORMS, WORD, Transform
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import on_the_fly_weights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import adds_in_runs
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.backends.tvm.target.pipeline import pipeline_of
from gmpq.ir import Conv2d

SCRATCH_BYTES = 512 << 10  # on the stack of a thread, in its second-level cache
INTERLEAVED_BYTES = 768 << 10  # the same, with transformed kernels of two groups
WEIGHTS_KEPT = 0.75  # of the second-level cache, from one block of tiles to the next
MOST_TILES = 64
MOST_SCHEDULES = 4  # of one transform and type, not counting the best ones for some threads
THREADS = (2, 4)
AWAITED = 0.5  # of the cycles to read weights that are prefetched
LARGE = 63  # a weight that leaves no room in int16 for long runs


def refuses(site: Site) -> str | None:
    """Return why no transform can compute the site exactly."""
    if not site.target.features & {"avx2", "amx-int8", "neon"}:
        return "needs AVX2, AMX or NEON"
    if (reason := refuses_dense(site)) is not None:
        return reason
    node, _ = _space_to_depth(site)
    window = node.window
    if node.groups > 1:
        return "needs one group"
    if window.dilation != (1, 1) or not _transforms(node):
        return "needs a 3x3 kernel of stride 1 or 2, or few channels of stride 2; no dilation"
    found = [proof for transform in _transforms(node) for proof in _proofs(site, transform)]
    reasons = [reason for reason in found if isinstance(reason, str)]
    return None if len(reasons) < len(found) else reasons[0]


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return every transform that fits, with its best sizes of a block of tiles."""
    found = []
    for transform in _transforms(_space_to_depth(site)[0]):
        for proof in _proofs(site, transform):
            if isinstance(proof, Proof):
                found += _best(site, proof, _on_the_fly(site, proof))
                if alternates(site.target, proof):
                    small = scaled_down(proof)
                    found += _best(site, small, interleaved(_on_the_fly(site, small)))
                roomy = (
                    scaled_up(proof, _space_to_depth(site)[0]) if proof.dtype == "int16" else proof
                )
                found += _best(site, roomy, _from_memory(site, roomy))
    return tuple(sorted(found, key=lambda candidate: candidate.cost))


FAMILY = Family("winograd", (Conv2d,), candidates, refuses)


def _space_to_depth(site: Site) -> tuple[Conv2d, int]:
    assert isinstance(site.node, Conv2d)
    return space_to_depth(site.node, site.inputs[0].codes)


def _transforms(node: Conv2d) -> list[Transform]:
    """Return the transforms of the node's kernel and stride."""
    window = node.window
    return [
        transform
        for transform in TRANSFORMS
        if window.kernel == (transform.kernel, transform.kernel)
        and window.stride == (transform.stride, transform.stride)
    ]


def _proofs(site: Site, transform: Transform) -> list[Proof | str]:
    """Return the proofs for bytes and for int16, or why they fail.

    Where dot products or matrix products multiply bytes, int16 does not pay.
    """
    node, _ = _space_to_depth(site)
    y = site.output.codes
    if min(y.height, y.width) < transform.size:
        return [f"{transform} needs {transform.size} rows and columns, has {y.height}x{y.width}"]
    found = _in_bytes(site, transform)
    if site.target.features & {"dotprod", "i8mm", "amx-int8"}:
        return found
    return [*found, prove_int16(node, site.inputs[0].q, transform)]


def _in_bytes(site: Site, transform: Transform) -> list[Proof | str]:
    """Return the proofs for bytes, of weights that are as small as bytes want them.

    Runs and vpdpbusd take whole weights, and what exceeds a byte to overflow steps; other
    instructions take the summands of split weights.
    """
    (node, _), qx, features = _space_to_depth(site), site.inputs[0].q, site.target.features
    runs = adds_in_runs(site.target)
    found = prove(node, qx, transform)
    if isinstance(found, Proof) and exceeds(found, LARGE if runs else INT8_MAX):
        found = prove(node, qx, transform.scaled_down)
    if isinstance(found, str):
        return [found]
    if runs:
        return [in_two_bytes(found)]
    parts = split(found)
    if "neon" in features:
        return [parts if isinstance(parts, str) else signed(parts)]
    if not exceeds(found):
        return [parts]
    whole = [found] if "avx512vnni" in features else []
    return [*whole, parts] if "amx-int8" in features else [*whole]


def _shape(site: Site, proof: Proof, tiles: int) -> WinogradShape:
    node, fold = _space_to_depth(site)
    padding = (node.window.padding.top, node.window.padding.left)
    x, y = site.inputs[0].codes, site.output.codes
    return WinogradShape(proof.transform, x, y, padding, fold, tiles, proof.splits)


def _from_memory(site: Site, proof: Proof) -> list[Schedule]:
    """Return blocks of tiles of all sizes, with weights that lie in memory."""
    everything = _shape(site, proof, 1).all_tiles
    instruction = instruction_for(site.target, proof, overflow_steps=True)
    sizes = {-(-everything // n) for n in range(1, everything + 1)}
    times = overflow_repeats(proof, None) if overflows(site.target, proof) else None
    found = []
    for tiles in sorted(size for size in sizes if size <= MOST_TILES):
        shape = _shape(site, proof, tiles)
        choices = tile_choices(site.target, instruction, shape.sizes)
        kinds = {
            type(product): product
            for product in exact_choices(site.target, proof, choices, times)[::-1]
            if not (proof.splits and product.overlaps)
        }
        found += [Schedule(shape, product) for product in kinds.values()]
    return found


def _on_the_fly(site: Site, proof: Proof) -> list[Schedule]:
    """Return one block of all tiles of an image, with weights that each task transforms."""
    shape = _shape(site, proof, 1)
    if proof.splits or shape.all_tiles > MOST_TILES:
        return []
    shape = _shape(site, proof, shape.all_tiles)
    codes = _space_to_depth(site)[0].weight.codes
    instruction = instruction_for(site.target, proof, overflow_steps=False)
    choices = tile_choices(site.target, instruction, shape.sizes)
    saturates = overflows(site.target, proof)
    times = overflow_repeats(proof, codes) if saturates else None
    found = []
    for product in exact_choices(site.target, proof, choices, times):
        vectors = product.block_elements // product.weight_lanes
        form = (product.weight_lanes, vectors, product.dtype)
        on_the_fly = on_the_fly_weights(proof.transform, codes, form, saturates=saturates)
        found.append(Schedule(shape, product, on_the_fly))
    return found


def _best(site: Site, proof: Proof, schedules: list[Schedule]) -> list[Candidate]:
    """Return the best predicted schedules within the second-level cache, and those for threads."""
    within_cache = [
        schedule
        for schedule in schedules
        if schedule.scratch_bytes <= _scratch_bytes(site.target, interleaved=schedule.interleaved)
    ]
    shared = [schedule.shared(threads) for schedule in within_cache for threads in THREADS]
    found = [
        Candidate(
            str(schedule),
            _cycles(site, schedule),
            partial(build, site, schedule, proof),
            schedule.work,
            schedule.tasks,
            schedule.weights_bytes,
        )
        for schedule in (*within_cache, *(schedule for schedule in shared if schedule is not None))
    ]
    best = sorted(found, key=lambda candidate: candidate.cost)[:MOST_SCHEDULES]
    return [*dict.fromkeys(best + [_fastest(found, threads) for threads in THREADS if found])]


def _fastest(found: list[Candidate], threads: int) -> Candidate:
    return min(found, key=lambda candidate: candidate.cost_on(threads))


def _scratch_bytes(target: CpuTarget, *, interleaved: bool) -> int:
    """Return what a block may keep; processors without dot products have no cache behind."""
    if interleaved:
        return min(INTERLEAVED_BYTES, target.l2_bytes * 3 // 4)
    return min(SCRATCH_BYTES, target.l2_bytes // 2 if neon.multiplies(target) else SCRATCH_BYTES)


def _cycles(site: Site, schedule: Schedule) -> float:
    """Return predicted cycles: additions, loads and stores of the transforms, and products."""
    shape, product, pipeline = schedule.shape, schedule.product, pipeline_of(site.target)
    t = shape.transform
    terms = both_counts(t.input) + 3 * t.positions
    vectors = -(-shape.stored // (product.group * product.lanes))
    inputs = schedule.parts * shape.tiles * vectors * terms
    terms = both_counts(t.output) + t.positions + t.size * t.size * 5
    outputs = shape.tiles * product.all_vectors * terms
    kept = schedule.weights_bytes <= WEIGHTS_KEPT * site.target.l2_bytes
    reads = 1 if kept else shape.blocks
    weights = schedule.on_the_fly
    transformed = 0 if weights is None else schedule.groups * weights.instructions()
    multiplied = schedule.passes * product.cycles(pipeline)
    computed = (inputs + outputs + transformed) / pipeline.issue + multiplied
    streamed = reads * streamed_cycles(site, schedule.weights_bytes)
    if schedule.interleaved:
        return max(shape.blocks * computed, streamed)
    if schedule.prefetches_weights:
        return max(shape.blocks * computed, streamed) + AWAITED * streamed
    return shape.blocks * computed + streamed


def build(site: Site, schedule: Schedule, proof: Proof) -> Call:
    """Return the call of one transform and block size."""
    (x,), y = site.inputs, site.output
    assert isinstance(site.node, Conv2d)
    codes = _space_to_depth(site)[0].weight.codes
    product, setup, weights = packed(schedule.product, schedule.on_the_fly, proof, codes)
    schedule, transform = replace(schedule, product=product), schedule.shape.transform
    start, factor = start_and_factor(site.node.weight, x.q, y.value.q)
    starts = transform.scale * start.astype(np.int64) - _of_offsets(proof)
    missing = (0, product.all_vectors * product.lanes - y.codes.channels)
    wrapped = ((starts + WORD // 2) % WORD - WORD // 2).astype(np.int32)  # modulo 2**32
    constants = (
        setup,
        weights,
        np.pad(wrapped, ((0, 0), missing)),
        np.pad(factor / np.float32(transform.power_of_two), missing),
    )
    function = kernel(schedule, tuple(proof.offsets.tolist()), epilogue_of(site))
    return site.call(function, constants)


def _of_offsets(proof: Proof) -> Array:
    """Return what the offsets add to the outputs of a tile: A^T (offset * sum of U) A, by pixel.

    That is int64 [size * size, O].
    """
    a, points = np.array(proof.transform.output, np.int64), proof.transform.points
    added = (proof.offsets[:, None] * proof.sums).reshape(points, points, -1)
    return np.asarray(np.einsum("ip,jq,pqo->ijo", a, a, added).reshape(len(a) ** 2, -1))
