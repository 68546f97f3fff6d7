"""What a plan consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gmpq.backends.tvm.kernels.base import Call, Tensor, Work
from gmpq.backends.tvm.plan.inflation import Option
from gmpq.backends.tvm.plan.memory import MemoryPlan


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node: its kernel, the calls that compute it, and why other kernels could not."""

    node: str
    outputs: tuple[str, ...]
    kernel: str
    configuration: str
    calls: tuple[Call, ...]
    refusals: Mapping[str, str]  # kernel family -> reason
    measured_ms: Mapping[str, float]  # configuration -> median, where it was tuned
    cost: float = 0.0  # predicted, on one thread
    work: Work | None = None  # of a kernel that multiplies
    options: tuple[Option, ...] = ()  # that a layer had; the chosen one is the first


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All steps in order, with the tensors and the memory they use."""

    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    memory: MemoryPlan
