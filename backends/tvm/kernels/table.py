"""All kernel families; the first that does not refuse a node computes it."""

from __future__ import annotations

from gmpq.backends.tvm.kernels import (
    add,
    amx,
    bitserial,
    depthwise,
    depthwise_rows,
    direct,
    direct16,
    ends,
    mapping,
    move,
    pool,
    winograd,
)
from gmpq.backends.tvm.kernels.base import Family

KERNELS: tuple[Family, ...] = (
    depthwise_rows.FAMILY,
    depthwise.FAMILY,
    winograd.FAMILY,
    amx.FAMILY,
    bitserial.FAMILY,
    direct.FAMILY,
    direct16.FAMILY,
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
