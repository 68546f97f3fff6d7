"""Targets: kinds of devices and their members, and what LLVM makes of processors."""

from gmpq.backends.tvm.target.cpu import CpuTarget, native
from gmpq.backends.tvm.target.gpu import GpuTarget
from gmpq.backends.tvm.target.layout_rules import LayoutRules
from gmpq.backends.tvm.target.target import (
    NAMES,
    AnyTarget,
    Target,
    find,
    find_cpu,
    rename_warnings,
)

__all__ = [
    "NAMES",
    "AnyTarget",
    "CpuTarget",
    "GpuTarget",
    "LayoutRules",
    "Target",
    "find",
    "find_cpu",
    "native",
    "rename_warnings",
]
