"""The kernel families for CPUs; of equal costs the first one is taken."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Family
from gmpq.backends.tvm.kernels.cpu.bitserial import bitserial
from gmpq.backends.tvm.kernels.cpu.depthwise import arm_neon as depthwise_neon
from gmpq.backends.tvm.kernels.cpu.depthwise import portable as depthwise_portable
from gmpq.backends.tvm.kernels.cpu.depthwise import x86_bytes as depthwise_bytes
from gmpq.backends.tvm.kernels.cpu.depthwise import x86_rows as depthwise_rows
from gmpq.backends.tvm.kernels.cpu.direct import (
    arm_mmla,
    direct,
    x86_amx,
    x86_dense_rows,
    x86_flip,
    x86_int16,
    x86_pixels,
    x86_wide,
    x86_widened,
)
from gmpq.backends.tvm.kernels.cpu.direct import arm_neon as direct_neon
from gmpq.backends.tvm.kernels.cpu.elementwise import (
    add,
    data_movement,
    float_boundary,
    lookup,
    multiply,
    pool,
    reals,
)
from gmpq.backends.tvm.kernels.cpu.gemv import gemv
from gmpq.backends.tvm.kernels.cpu.winograd import winograd
from gmpq.backends.tvm.target.cpu import CpuTarget

KERNELS: tuple[Family[CpuTarget], ...] = (
    depthwise_rows.FAMILY,
    depthwise_bytes.FAMILY,
    depthwise_neon.FAMILY,
    depthwise_portable.FAMILY,
    winograd.FAMILY,
    x86_amx.FAMILY,
    bitserial.FAMILY,
    gemv.FAMILY,
    direct.FAMILY,
    x86_wide.FAMILY,
    x86_dense_rows.FAMILY,
    x86_int16.FAMILY,
    direct_neon.FAMILY,
    arm_mmla.FAMILY,
    x86_flip.FAMILY,
    x86_pixels.FAMILY,
    x86_widened.FAMILY,
    add.FAMILY,
    multiply.FAMILY,
    lookup.COPY,
    lookup.TABLE,
    pool.MAX,
    pool.AVERAGE,
    data_movement.FAMILY,
    reals.FAMILY,
    float_boundary.QUANTIZE,
    float_boundary.DEQUANTIZE,
    float_boundary.SOFTMAX,
)
