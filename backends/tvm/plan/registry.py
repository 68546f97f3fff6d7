"""All kinds of devices: the planner asks the one of its target, and no other."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Device
from gmpq.backends.tvm.kernels.cpu import device as cpu
from gmpq.backends.tvm.kernels.gpu import device as gpu
from gmpq.backends.tvm.target import CpuTarget, GpuTarget

CPU: Device[CpuTarget] = cpu.DEVICE
GPU: Device[GpuTarget] = gpu.DEVICE
