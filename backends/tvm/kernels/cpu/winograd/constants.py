"""The constants of a Winograd kernel: the weights as its product reads them, and its setup.

Where vpdpbusd multiplies weights that exceed bytes, the setup holds its overflow steps
(``x86_vnni_overflow``): of weights from memory those that clipping leaves, of weights that tasks
transform those that saturating additions leave.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.winograd.dot import DotProduct
from gmpq.backends.tvm.kernels.cpu.winograd.products import Product
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof, exceeds
from gmpq.backends.tvm.kernels.cpu.winograd.shape import Schedule
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import saturated_weights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import ByteProduct, adds_in_runs
from gmpq.backends.tvm.kernels.cpu.winograd.x86_vnni_overflow import (
    LARGEST_SHARE,
    count,
    kept,
    overflow_table,
    repeats,
)
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR, CpuTarget


def packed(schedule: Schedule, proof: Proof, codes: Array) -> tuple[Schedule, Array, Array]:
    """Return the schedule with all that it needs to know, its setup, and the weights it reads."""
    product, on_the_fly = schedule.product, schedule.on_the_fly
    if on_the_fly is not None:
        taps = codes.transpose(2, 3, 0, 1).reshape(-1, *codes.shape[:2])
        setup = product.setup()
        if isinstance(product, ByteProduct):
            setup = product.late_table(on_the_fly.pitch)
        elif isinstance(product, DotProduct) and product.overflow is not None:
            setup = _overflow_table(product, _rest(proof, codes))
        return schedule, setup, on_the_fly.pack(product.pack(taps))
    if isinstance(product, ByteProduct):
        exact, setup, weights = product.packed(proof)
        return replace(schedule, product=exact), setup, weights
    setup = product.setup()
    if isinstance(product, DotProduct) and product.overflow is not None:
        setup = _overflow_table(product, _rest(proof, None))
    weights = kept(proof.weights) if proof.dtype == "int8" else proof.weights
    return schedule, setup, np.ascontiguousarray(product.pack(weights).swapaxes(0, 1))


def _overflow_table(product: DotProduct, rest: Array) -> Array:
    return overflow_table(rest, product.depth, product.all_vectors, product.vectors)


def of_offsets(proof: Proof) -> Array:
    """Return what the offsets add to the outputs of a tile: A^T (offset * sum of U) A, by pixel."""
    a, points = np.array(proof.transform.output, np.int64), proof.transform.points
    added = (proof.offsets[:, None] * proof.sums).reshape(points, points, -1)
    return np.asarray(np.einsum("ip,jq,pqo->ijo", a, a, added).reshape(len(a) ** 2, -1))


def overflows(target: CpuTarget, proof: Proof) -> bool:
    """Return whether weights exceed bytes, and vpdpbusd multiplies what does by overflow steps."""
    return proof.dtype == "int8" and not adds_in_runs(target) and exceeds(proof)


def overflow_repeats(proof: Proof, codes: Array | None) -> Array:
    """Return how often each step overflows, int [positions, all_vectors, depth].

    ``codes`` are those of the kernels [O, I, kH, kW], where tasks transform them.
    """
    outputs, inputs = proof.weights.shape[1:]
    return repeats(_rest(proof, codes), -(-inputs // GROUP), -(-outputs // VECTOR))


def exact(
    target: CpuTarget, proof: Proof, products: list[Product], times: Array | None
) -> list[Product]:
    """Return the exact ones of ``products``; ``times`` is what ``overflow_repeats`` returns.

    Without it no weight exceeds a byte, or the product takes it apart.
    """
    if proof.splits and "avx512vnni" in target.features:
        return [product for product in products if not isinstance(product, DotProduct)]
    if times is None:
        return products
    dots = [product for product in products if isinstance(product, DotProduct)]
    found = [(dot, count(times, dot.vectors)) for dot in dots]
    return [
        replace(dot, overflow=overflow)
        for dot, overflow in found
        if overflow.share(dot.depth) <= LARGEST_SHARE
    ]


def _rest(proof: Proof, codes: Array | None) -> Array:
    """Return what clipping to bytes, or saturating additions of ``codes``, leave of the weights."""
    bytes_of = kept(proof.weights) if codes is None else saturated_weights(proof.transform, codes)
    return np.asarray(proof.weights - bytes_of)
