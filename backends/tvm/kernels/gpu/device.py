"""GPUs as the planner knows them."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Device, Tensor
from gmpq.backends.tvm.kernels.gpu.elementwise.float_boundary import in_order_call
from gmpq.backends.tvm.kernels.gpu.families import KERNELS
from gmpq.backends.tvm.kernels.requant import exact_factor
from gmpq.backends.tvm.target.gpu import GpuTarget
from gmpq.ir import QParams


def _copies_exactly(source: QParams, q: QParams) -> bool:
    return exact_factor(source, q) is not None


def _no_halo(_tensor: Tensor) -> None:
    """Return no call: every kernel fills the halo of what it stores."""


DEVICE: Device[GpuTarget] = Device(KERNELS, _no_halo, in_order_call, _copies_exactly)
