"""All kernel families; the planner compares the candidates of those that do not refuse a node."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Family
from gmpq.backends.tvm.kernels.cpu import families as cpu

KERNELS: tuple[Family, ...] = (*cpu.KERNELS,)
