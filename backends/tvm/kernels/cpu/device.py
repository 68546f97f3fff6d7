"""CPUs as the planner knows them."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Device, RowMoves
from gmpq.backends.tvm.kernels.cpu.elementwise.float_boundary import halo_call
from gmpq.backends.tvm.kernels.cpu.elementwise.reals import in_order_call
from gmpq.backends.tvm.kernels.cpu.elementwise.row_moves import filled, moved_to_start
from gmpq.backends.tvm.kernels.cpu.families import KERNELS
from gmpq.backends.tvm.kernels.requant import exact_factor
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.ir import QParams


def _copies_exactly(source: QParams, q: QParams) -> bool:
    return exact_factor(source, q) is not None


ROWS = RowMoves(moved_to_start, filled)
DEVICE: Device[CpuTarget] = Device(KERNELS, halo_call, in_order_call, _copies_exactly, ROWS)
