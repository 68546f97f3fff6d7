"""GPUs as targets: one row per architecture that programs are compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from gmpq.backends.tvm.target import cpu
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.backends.tvm.target.layout_rules import LayoutRules
from gmpq.backends.tvm.target.llvm import ARM, X86

VECTOR = 32  # bytes of channels that one product of tensor cores reads
GROUP = 4  # channels of one word
RULES = LayoutRules(VECTOR, GROUP, fold=1, alignment=256, slack=256)


@dataclass(frozen=True, slots=True)
class GpuTarget:
    """An NVIDIA GPU architecture, and the processor of the machine that starts its programs."""

    name: str
    arch: str  # as compilers name it, "sm_80"
    triple: str  # of the host
    l2_bytes: int

    @property
    def machine(self) -> str:
        """The host's architecture, as ``uname -m`` names it."""
        return self.triple.split("-", maxsplit=1)[0]

    @property
    def capability(self) -> int:
        """Compute capability: 80 is 8.0."""
        return int(self.arch.removeprefix("sm_"))

    @property
    def copies_asynchronously(self) -> bool:
        """Whether the architecture has ``cp.async`` and the products m16n8k32 (PTX ISA 7.0)."""
        return self.capability >= 80

    @property
    def layout_rules(self) -> LayoutRules:
        """How values lie in memory: channels in whole words of 32 bytes."""
        return RULES

    @property
    def llc_share_bytes(self) -> int:
        """What constants may take of the L2 cache before memory must deliver them."""
        return self.l2_bytes // 2

    @property
    def flush_bytes(self) -> int:
        """Bytes that evict the L2 cache when read."""
        return 2 * self.l2_bytes

    @property
    def value_cache_bytes(self) -> int | None:
        """None: layers do not run in turn over blocks of rows."""
        return None

    @property
    def params_ratio(self) -> float:
        """No bound."""
        return inf

    def fingerprint(self) -> Mapping[str, object]:
        """Return, as JSON values, what the time of a kernel depends on."""
        return {"gpu": self.arch}

    def runs_here(self) -> bool:
        """Return False: a program is emulated until a device is asked for by name."""
        return False


def host_of(target: GpuTarget) -> CpuTarget:
    """Return a processor of the machine that starts the target's programs."""
    row = next(row for row in cpu.ROWS if row.triple == target.triple)
    return replace(row.target(), name=target.name)


ROWS = (
    GpuTarget("cuda-sm_75", "sm_75", X86, 4 << 20),
    GpuTarget("cuda-sm_80", "sm_80", X86, 40 << 20),
    GpuTarget("cuda-sm_86", "sm_86", X86, 6 << 20),
    GpuTarget("cuda-sm_87", "sm_87", ARM, 4 << 20),
    GpuTarget("cuda-sm_89", "sm_89", X86, 48 << 20),
    GpuTarget("cuda-sm_90", "sm_90", X86, 50 << 20),
    GpuTarget("cuda-sm_120", "sm_120", X86, 64 << 20),
)
