"""How instruction sets pack planes of bits, and count them.

A lane of 32 bits holds 32 channels of one tap for one output channel, so that sums have a lane per
output channel, and none is across lanes.

AVX-512 counts the bits of a lane (``x86_popcount``), NEON those of a byte (``arm_popcount``).
"""

from __future__ import annotations

from typing import TypeAlias

from gmpq.backends.tvm.kernels.cpu.bitserial.arm_popcount import ByteCounter
from gmpq.backends.tvm.kernels.cpu.bitserial.x86_popcount import LaneCounter
from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.target.cpu import CpuTarget

Counter: TypeAlias = LaneCounter | ByteCounter


def counter_of(target: CpuTarget) -> Counter | None:
    """Return how the target counts bits; None without vectors of population counts."""
    bits = neon.word_bits(target)
    if bits is not None:
        return ByteCounter(bits)
    return LaneCounter() if {"avx512vpopcntdq", "avx512bw"} <= target.features else None
