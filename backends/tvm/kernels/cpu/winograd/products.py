"""The choice between the products of Winograd convolution."""

from __future__ import annotations

from typing import TypeAlias

from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import Runs
from gmpq.backends.tvm.kernels.cpu.winograd.arm_mmla import MatrixProduct, matrix_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.arm_neon import NeonProduct, neon_tiles, runs_for
from gmpq.backends.tvm.kernels.cpu.winograd.dot import Dot, DotProduct, dot_for, register_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import Sizes
from gmpq.backends.tvm.kernels.cpu.winograd.x86_amx import TileProduct, amx_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import (
    ByteProduct,
    ByteRuns,
    adds_in_runs,
    byte_runs,
    byte_tiles,
)
from gmpq.backends.tvm.target.cpu import Target
from gmpq.backends.tvm.target.pipeline import pipeline_of

Product: TypeAlias = DotProduct | ByteProduct | NeonProduct | MatrixProduct | TileProduct
Means: TypeAlias = Dot | ByteRuns | tuple[Runs, ...] | None  # None where nothing is exact


def means_for(target: Target, proof: Proof, *, extras: bool) -> Means:
    """Return what multiplies the operands of ``proof`` beside AMX and the matrices of ARM.

    ``extras`` tells whether some weights may be left to extra steps.
    """
    if neon.multiplies(target) and proof.dtype == "int8":
        return runs_for(target, proof)
    if adds_in_runs(target) and proof.dtype == "int8":
        return byte_runs(target, proof, extras=extras)
    return dot_for(target, proof)


def fitted(target: Target, means: Means, sizes: Sizes) -> list[Product]:
    """Return the products of ``sizes``, the best predicted one of each kind first."""
    found: list[Product] = []
    if "i8mm" in target.features:
        found += matrix_tiles(target, sizes)
    elif isinstance(means, tuple):
        found += [tile for runs in means for tile in neon_tiles(target, runs, sizes)]
    elif isinstance(means, ByteRuns):
        found += byte_tiles(target, means, sizes)
    elif means is not None:
        found += register_tiles(target, means, sizes)
    if "amx-int8" in target.features:
        found += amx_tiles(sizes)
    return sorted(found, key=lambda p: p.cycles(pipeline_of(target)))
