"""What a program for a CPU takes of the stack of every thread."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.cpu.isa.builder import scratch_bytes
from gmpq.backends.tvm.plan.plan import Plan, Step

# Besides the kernels' buffers: registers that they spill, at most 4 KiB, and the first call of a
# function in libm or libc: the dynamic linker, which binds it then, saves all registers meanwhile,
# 11 KiB with those of AMX.
CALLS_BYTES = 16 << 10
LEAST_STACK_BYTES = 256 << 10


def stack_bytes(step: Step) -> int:
    """Return the bytes of the buffers that a step keeps on the stack of every thread."""
    return max((scratch_bytes(call.function) for call in step.calls), default=0)


def most_stack_bytes(planned: Plan) -> int:
    """Return the bytes that a run takes of the stack of every thread."""
    return CALLS_BYTES + max((stack_bytes(step) for step in planned.steps), default=0)


def thread_stack_bytes(planned: Plan) -> int:
    """Return the stack of a thread that the library starts: of few sizes, powers of two.

    Networks of one size share an object of the entry points; pages that none touches cost nothing.
    """
    return max(LEAST_STACK_BYTES, 1 << (most_stack_bytes(planned) - 1).bit_length())
