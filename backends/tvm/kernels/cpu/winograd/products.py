"""Which instruction multiplies in Winograd convolution, by which register tiles, and what it reads.

Where vpdpbusd multiplies weights that exceed bytes, the setup holds its overflow steps
(``x86_vnni_overflow``): of weights from memory those that clipping leaves, of weights that tasks
transform those that saturating additions leave.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import NeonRuns
from gmpq.backends.tvm.kernels.cpu.winograd.arm_mmla import MatrixProduct, matrix_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.arm_neon import NeonProduct, neon_tiles, runs_for
from gmpq.backends.tvm.kernels.cpu.winograd.dot import (
    DotProduct,
    WinogradDot,
    dot_for,
    register_tiles,
)
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof, exceeds
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import ProductSizes
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import (
    OnTheFlyWeights,
    saturated_weights,
)
from gmpq.backends.tvm.kernels.cpu.winograd.x86_amx import AmxProduct, amx_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import (
    ByteProduct,
    LayerRuns,
    adds_in_runs,
    byte_tiles,
    layer_runs,
)
from gmpq.backends.tvm.kernels.cpu.winograd.x86_vnni_overflow import (
    LARGEST_SHARE,
    count,
    kept,
    overflow_table,
    repeats,
)
from gmpq.backends.tvm.target.cpu import GROUP, VECTOR, CpuTarget
from gmpq.backends.tvm.target.pipeline import pipeline_of

Product: TypeAlias = DotProduct | ByteProduct | NeonProduct | MatrixProduct | AmxProduct
Instruction: TypeAlias = (
    WinogradDot | LayerRuns | tuple[NeonRuns, ...] | None
)  # None where nothing is exact


def instruction_for(target: CpuTarget, proof: Proof, *, overflow_steps: bool) -> Instruction:
    """Return what multiplies the operands of ``proof`` other than AMX and SMMLA.

    ``overflow_steps`` allows that some weights are left to overflow steps.
    """
    if neon.multiplies(target) and proof.dtype == "int8":
        return runs_for(target, proof)
    if adds_in_runs(target) and proof.dtype == "int8":
        return layer_runs(target, proof, overflow_steps=overflow_steps)
    return dot_for(target, proof)


def tile_choices(target: CpuTarget, instruction: Instruction, sizes: ProductSizes) -> list[Product]:
    """Return the products of ``sizes``, the best predicted one of each kind first."""
    found: list[Product] = []
    if "i8mm" in target.features:
        found += matrix_tiles(target, sizes)
    elif isinstance(instruction, tuple):
        found += [tile for runs in instruction for tile in neon_tiles(target, runs, sizes)]
    elif isinstance(instruction, LayerRuns):
        found += byte_tiles(target, instruction, sizes)
    elif instruction is not None:
        found += register_tiles(target, instruction, sizes)
    if "amx-int8" in target.features:
        found += amx_tiles(sizes)
    return sorted(found, key=lambda p: p.cycles(pipeline_of(target)))


def packed(
    product: Product, on_the_fly: OnTheFlyWeights | None, proof: Proof, codes: Array
) -> tuple[Product, Array, Array]:
    """Return the product with all that it needs to know, its setup, and the weights it reads.

    ``codes`` are int8 [O, I, kH, kW]. The setup is int32 [table_size], or what the product wants;
    the weights are in the order in which the product reads them, [groups, ...].
    """
    if on_the_fly is not None:
        taps = codes.transpose(2, 3, 0, 1).reshape(-1, *codes.shape[:2])
        setup = product.setup()
        if isinstance(product, ByteProduct):
            setup = product.late_table(on_the_fly.pitch)
        elif isinstance(product, DotProduct) and product.overflow is not None:
            setup = _overflow_table(product, _rest(proof, codes))
        return product, setup, on_the_fly.pack(product.pack(taps))
    if isinstance(product, ByteProduct):
        return product.packed(proof)
    setup = product.setup()
    if isinstance(product, DotProduct) and product.overflow is not None:
        setup = _overflow_table(product, _rest(proof, None))
    weights = kept(proof.weights) if proof.dtype == "int8" else proof.weights
    return product, setup, np.ascontiguousarray(product.pack(weights).swapaxes(0, 1))


def _overflow_table(product: DotProduct, rest: Array) -> Array:
    return overflow_table(rest, product.depth, product.all_vectors, product.vectors)


def alternates(target: CpuTarget, proof: Proof) -> bool:
    """Return whether vpdpbusd multiplies, between whose products kernels may be transformed."""
    return proof.dtype == "int8" and "avx512vnni" in target.features and not proof.splits


def overflows(target: CpuTarget, proof: Proof) -> bool:
    """Return whether weights exceed bytes, and vpdpbusd multiplies what does by overflow steps."""
    return proof.dtype == "int8" and not adds_in_runs(target) and exceeds(proof)


def overflow_repeats(proof: Proof, codes: Array | None) -> Array:
    """Return how often each step overflows, int [positions, all_vectors, depth].

    ``codes`` are those of the kernels [O, I, kH, kW], where tasks transform them.
    """
    outputs, inputs = proof.weights.shape[1:]
    return repeats(_rest(proof, codes), -(-inputs // GROUP), -(-outputs // VECTOR))


def exact_choices(
    target: CpuTarget, proof: Proof, products: list[Product], times: Array | None
) -> list[Product]:
    """Return the exact ones of ``products``; ``times`` is what ``overflow_repeats`` returns.

    That is int [positions, all_vectors, depth]. Without it no weight exceeds a byte, or the product
    takes it apart.
    """
    if proof.splits and "avx512vnni" in target.features:
        return [product for product in products if not isinstance(product, DotProduct)]
    if times is None:
        return products
    dots = [product for product in products if isinstance(product, DotProduct)]
    found = [(dot, count(times, dot.vectors)) for dot in dots]
    return [
        replace(dot, overflow=overflow if overflow.steps else None)
        for dot, overflow in found
        if overflow.share(dot.depth) <= LARGEST_SHARE
    ]


def _rest(proof: Proof, codes: Array | None) -> Array:
    """Return what clipping to bytes, or saturating additions of ``codes``, leave of the weights."""
    bytes_of = kept(proof.weights) if codes is None else saturated_weights(proof.transform, codes)
    return np.asarray(proof.weights - bytes_of)
