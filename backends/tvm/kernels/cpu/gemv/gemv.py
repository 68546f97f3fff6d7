"""Fully connected layers whose weights are read packed, and unpacked in registers.

At batch 1 such a layer is as fast as its weights can be read. Weights of w bits are cut into digits
of 4, 2 and 1 bits, which are packed without gaps. With the smallest weight -m,

    w = sum over digits d of 2**s_d * digit_d  -  m,
    acc = bias - z * sum of w  -  m * sum of x  +  sum over d of 2**s_d * (x dot digit_d).

A digit lies in 0..15 and so is a signed byte for vpdpbusd (Intel SDM, VPDPBUSD), whose sums of four
are at most 4 * 255 * 15; and for vpmaddubsw, of whose pairs of products int16 holds ``SHORT``
steps: 4 * 2 * 255 * 15 = 30600. ``refuses`` proves that all terms together, without their signs,
stay below 2**31. ``sum of x`` is a product by ones, and by zeros where memory holds padding
channels, once per task.

Without VNNI eight bits are two digits: the other kernels read them as int16, twice as many bytes.

A vector of four bytes a lane with digits of b bits holds 8 / b steps of an output a lane times four
inputs.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gmpq.backends.tvm.kernels.base import Array, Call, Candidate, Family
from gmpq.backends.tvm.kernels.cpu.epilogue.site import epilogue_of
from gmpq.backends.tvm.kernels.cpu.gemv.loops import INPUTS, SHORT, STEPS, GemvKernel, GemvShape
from gmpq.backends.tvm.kernels.cpu.isa.dot import best_dot
from gmpq.backends.tvm.kernels.cpu.isa.site import Site, streamed_cycles
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Vpdpbusd, Vpmaddubsw, Vpmaddwd, vpmaddubsw_lanes
from gmpq.backends.tvm.kernels.requant import start_and_factor
from gmpq.backends.tvm.target.cpu import GROUP, CpuTarget
from gmpq.ir import Linear

DIGITS = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2)}  # by bits, the lowest first
FEWER_DIGITS = DIGITS | {3: (4,), 7: (4, 4), 8: (4, 4)}  # where products cost more than bytes
PACKED = 6  # bits; more gain nothing over bytes
FEWEST_BYTES = 64 << 10  # of weights; fewer stay in caches, from where bytes need no unpacking


def refuses(site: Site) -> str | None:
    """Return why packed weights are of no use, or not exact."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Linear)
    if _dot(site.target) is None:
        return "needs AVX2"
    bits = _bits(node.weight.codes)
    if bits > PACKED and not _read_as_words(site, node):
        return f"has weights of {bits} bits: bytes are read as fast"
    if node.weight.codes.size < FEWEST_BYTES:
        return f"has {node.weight.codes.size} weights: caches hold them"
    start, _ = start_and_factor(node.weight, q, site.output.value.q)
    codes = node.weight.codes.shape[1] * max(q.high, q.zero_point)
    digits = codes * ((1 << bits) - int(node.weight.codes.min()))
    largest = int(np.abs(start.astype(np.int64)).max()) + digits
    return None if largest < 1 << 31 else f"may sum up to {largest}, beyond int32"


def _dot(target: CpuTarget) -> Vpdpbusd | Vpmaddubsw | None:
    """Return what multiplies bytes; None without AVX2."""
    lanes = vpmaddubsw_lanes(target)
    if {"avx512vnni", "avx512bw"} <= target.features:
        return Vpdpbusd()
    return None if lanes is None else Vpmaddubsw(lanes, run=SHORT)


def _read_as_words(site: Site, node: Linear) -> bool:
    """Return whether other kernels need two bytes of a weight."""
    q = site.inputs[0].q
    return isinstance(best_dot(site.target, max(q.high, q.zero_point), node.weight.codes), Vpmaddwd)


def _bits(codes: Array) -> int:
    """Return the bits of the codes above the smallest."""
    return max(1, (int(codes.max()) - int(codes.min())).bit_length())


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return blocks of four vectors of outputs, and of two."""
    node, x, y, dot = site.node, site.inputs[0].codes, site.output.codes, _dot(site.target)
    assert isinstance(node, Linear)
    assert dot is not None
    bits, smallest = _bits(node.weight.codes), int(node.weight.codes.min())
    digits = (DIGITS if isinstance(dot, Vpdpbusd) else FEWER_DIGITS)[bits]
    most = -(-y.channels // dot.lanes)
    counts = [vectors for vectors in (4, 2) if vectors <= most] or [1]
    shapes = [GemvShape(x, y, dot, digits, smallest, vectors) for vectors in counts]
    found = [(shape, _cycles(site, shape)) for shape in shapes]
    text = "+".join(str(digit) for digit in digits) + " bits"
    work = site.work(dot.instruction, len(digits))
    return tuple(
        Candidate(f"{text}, {shape.vectors} vectors", cycles, partial(build, site, shape), work)
        for shape, cycles in sorted(found, key=lambda pair: pair[1])
    )


def _cycles(site: Site, shape: GemvShape) -> float:
    """Return predicted cycles: as many instructions as ports take, or as the weights arrive."""
    products, ports = (1, 2) if isinstance(shape.dot, Vpdpbusd) else (2 + 2 / SHORT, 3)
    unpacking = sum(2 * STEPS - STEPS * digit / 8 for digit in shape.digits)
    instructions = shape.vectors * (unpacking + len(shape.digits) * STEPS * products) + STEPS
    round_cycles = max(instructions / ports, streamed_cycles(site, shape.round_bytes))
    return shape.x.batch * shape.blocks * (shape.rounds * round_cycles + 20 * shape.vectors)


def build(site: Site, shape: GemvShape) -> Call:
    """Return the call of one block size."""
    node = site.node
    assert isinstance(node, Linear)
    start, factor = start_and_factor(node.weight, site.inputs[0].q, site.output.value.q)
    rest = (0, shape.all_vectors * shape.dot.lanes - len(start))
    ones = np.arange(shape.rounds * INPUTS) < shape.x.channels
    padded = np.append(ones, np.zeros(-len(ones) % shape.dot.elements)).astype(np.int8)
    constants = (
        padded,
        packed(node.weight.codes, shape),
        np.pad(start, rest),
        np.pad(factor, rest),
    )
    return site.call(GemvKernel(shape, epilogue_of(site)).function(), constants)


def packed(codes: Array, shape: GemvShape) -> Array:
    """Return uint8 weights [blocks, rounds, bytes of a round] of codes [O, I]."""
    outputs, inputs = codes.shape
    lanes, size = shape.dot.lanes, shape.dot.elements
    raised = np.full((shape.all_vectors * lanes, shape.rounds * INPUTS), 0, np.uint8)
    raised[:outputs, :inputs] = codes.astype(np.int16) - shape.smallest
    first = np.minimum(np.arange(shape.blocks) * shape.vectors, shape.all_vectors - shape.vectors)
    places = first[:, None] * lanes + np.arange(shape.vectors * lanes)
    blocks = raised[places].reshape(shape.blocks, shape.vectors, lanes, shape.rounds, STEPS, GROUP)
    steps = blocks.transpose(0, 3, 1, 4, 2, 5).reshape(
        *blocks.shape[:1], shape.rounds, -1, STEPS, size
    )
    parts, low = [], 0
    for bits in shape.digits:
        digit = (steps >> low) & ((1 << bits) - 1)
        shared = digit.reshape(*digit.shape[:3], STEPS * bits // 8, 8 // bits, size)
        shifts = (np.arange(8 // bits, dtype=np.uint8) * bits)[:, None]
        parts.append((shared << shifts).sum(axis=4, dtype=np.uint8))
        low += bits
    return np.concatenate(parts, axis=3)  # [blocks, rounds, vectors, vectors of a round, size]


FAMILY = Family("gemv", (Linear,), candidates, refuses)
