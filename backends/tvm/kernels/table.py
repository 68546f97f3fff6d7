"""All kernel families; the planner compares the candidates of those that do not refuse a node."""

from __future__ import annotations

from gmpq.backends.tvm.kernels import (
    add,
    amx,
    bitserial,
    depthwise,
    depthwise_bytes,
    depthwise_neon,
    depthwise_rows,
    direct,
    direct16,
    direct_flip,
    direct_mmla,
    direct_neon,
    direct_pixels,
    direct_words,
    ends,
    gemv,
    mapping,
    move,
    pool,
    winograd,
)
from gmpq.backends.tvm.kernels.base import Family

KERNELS: tuple[Family, ...] = (
    depthwise_rows.FAMILY,
    depthwise_bytes.FAMILY,
    depthwise_neon.FAMILY,
    depthwise.FAMILY,
    winograd.FAMILY,
    amx.FAMILY,
    bitserial.FAMILY,
    gemv.FAMILY,
    direct.FAMILY,
    direct16.FAMILY,
    direct_neon.FAMILY,
    direct_mmla.FAMILY,
    direct_flip.FAMILY,
    direct_pixels.FAMILY,
    direct_words.FAMILY,
    add.FAMILY,
    mapping.COPY,
    mapping.TABLE,
    pool.MAX,
    pool.AVERAGE,
    move.FAMILY,
    ends.QUANTIZE,
    ends.DEQUANTIZE,
    ends.SOFTMAX,
)
