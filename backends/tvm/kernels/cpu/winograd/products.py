"""Which instruction multiplies in Winograd convolution, and by which register tiles."""

from __future__ import annotations

from typing import TypeAlias

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
from gmpq.backends.tvm.kernels.cpu.winograd.proof import Proof
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import ProductSizes
from gmpq.backends.tvm.kernels.cpu.winograd.x86_amx import AmxProduct, amx_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import (
    ByteProduct,
    LayerRuns,
    adds_in_runs,
    byte_tiles,
    layer_runs,
)
from gmpq.backends.tvm.target.cpu import CpuTarget
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
