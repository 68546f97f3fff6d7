"""The kernel families for GPUs; of equal costs the first one is taken."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Family
from gmpq.backends.tvm.kernels.gpu.direct import direct
from gmpq.backends.tvm.kernels.gpu.elementwise import codes, float_boundary, move, pool
from gmpq.backends.tvm.kernels.gpu.mma import mma
from gmpq.backends.tvm.target.gpu import GpuTarget

KERNELS: tuple[Family[GpuTarget], ...] = (
    mma.FAMILY,
    direct.FAMILY,
    codes.ADD,
    codes.MULTIPLY,
    codes.TABLE,
    pool.MAX,
    pool.AVERAGE,
    move.CODES,
    move.REALS,
    float_boundary.QUANTIZE,
    float_boundary.DEQUANTIZE,
    float_boundary.SOFTMAX,
)
