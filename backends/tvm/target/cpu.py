"""Processors as targets: one row each of what a program is compiled for and where it can run.

Besides these rows, ``TRIPLE,CPU[,+FEATURE...]`` names any processor that LLVM knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from tvm.target import Target as TvmTarget
from tvm.target import codegen

from gmpq.backends.host import Host, host
from gmpq.backends.tvm.target.layout_rules import LayoutRules
from gmpq.backends.tvm.target.llvm import ARM, ARM32, X86, Processor, parse

# LLVM's names. It lists how to tune for a processor among the features too: those bind nothing.
INSTRUCTION_SETS = frozenset(
    (
        *("sse2", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "fma", "f16c", "avxvnni"),
        *("bmi", "bmi2", "lzcnt", "movbe", "popcnt"),
        *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni"),
        *("avx512vbmi", "avx512bitalg", "avx512vpopcntdq", "amx-tile", "amx-int8"),
        *("fp-armv8", "neon", "dotprod", "i8mm"),
    )
)
BOARD_RATIO = 1.5  # boards have little memory, and read it slowly
DOTS = frozenset(("dotprod", "i8mm"))  # kernels know those of 64 bits only
VECTOR = 16  # channels of one vector of codes
GROUP = 4  # channels that one lane of a dot product reads
FOLD = 2  # rows and columns that space-to-depth convolutions read as one pixel
RULES = LayoutRules(VECTOR, GROUP, FOLD, alignment=64, slack=128)  # a cache line; two vectors
DENSE_RULES = replace(RULES, dense_pixels=True)


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A processor, as LLVM names it, and the toolchain that links for it.

    ``features`` holds those of ``INSTRUCTION_SETS`` that the processor has; kernels choose their
    instructions by them.
    """

    name: str
    triple: str
    cpu: str
    attributes: tuple[str, ...]  # LLVM features beyond those of the cpu, "+amx-int8"
    features: frozenset[str]
    compiler: str  # the C compiler that links for the triple, where it is installed
    vector_registers: int  # vector registers
    l1d_bytes: int  # first-level data cache
    l2_bytes: int  # second-level cache of one core
    llc_share_bytes: int  # what constants may take of the last cache until memory must bring them

    def tvm(self) -> TvmTarget:
        """Return the target as TVM has it."""
        return self.processor().tvm()

    @property
    def machine(self) -> str:
        """The architecture, as ``uname -m`` names it."""
        return self.triple.split("-", maxsplit=1)[0]

    @property
    def layout_rules(self) -> LayoutRules:
        """How values lie in memory: alike for all processors but for network inputs."""
        vnni, amx = (name in self.features for name in ("avx512vnni", "amx-int8"))
        return DENSE_RULES if vnni and not amx else RULES

    @property
    def flush_bytes(self) -> int:
        """Bytes that evict the first- and the second-level cache when read."""
        return 2 * self.l2_bytes

    @property
    def value_cache_bytes(self) -> int | None:
        """The L2 cache of a core, in which values may stay until the next layer reads them.

        Kernels of AVX2 gain less from it, and ARM was not measured.
        """
        return self.l2_bytes if "avx512vnni" in self.features else None

    @property
    def params_ratio(self) -> float:
        """What weights may take in times of a byte each, unless the user says otherwise."""
        return inf if self.machine == "x86_64" else BOARD_RATIO

    def fingerprint(self) -> Mapping[str, object]:
        """Return, as JSON values, what the time of a kernel depends on."""
        return {"cpu": self.cpu, "features": sorted(self.features)}

    def runs_here(self) -> bool:
        """Return whether this machine has the architecture and all instructions of the target."""
        here = native()
        return self.triple == here.triple and self.instructions() <= here.instructions()

    def instructions(self) -> frozenset[str]:
        """Return LLVM's names of all that the target's code may use."""
        return self.processor().instructions() | self.features

    def processor(self) -> Processor:
        """Return what LLVM knows of the target."""
        return Processor(self.triple, self.cpu, self.attributes)


@dataclass(frozen=True, slots=True)
class Row:
    """What distinguishes a target from others; LLVM knows the rest."""

    name: str
    triple: str
    cpu: str
    compiler: str
    vector_registers: int
    l1d_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    llc_share_bytes: int = 8 << 20
    attributes: tuple[str, ...] = ()

    def target(self) -> CpuTarget:
        """Return the target with the instruction sets that LLVM lists for it."""
        features = Processor(self.triple, self.cpu, self.attributes).features()
        return CpuTarget(
            self.name,
            self.triple,
            self.cpu,
            self.attributes,
            (INSTRUCTION_SETS & features) - (DOTS if self.triple == ARM32 else frozenset()),
            self.compiler,
            self.vector_registers,
            self.l1d_bytes,
            self.l2_bytes,
            self.llc_share_bytes,
        )


SHARERS = 4  # a last-level cache is as large as it says for all cores, and all tenants together
GCC, GCC32 = f"{ARM}-gcc", f"{ARM32}-gcc"
COMPILERS = {X86: "cc", ARM: GCC, ARM32: GCC32}
ROWS = (
    Row("x86-64-v3", X86, "x86-64-v3", "cc", 16, l2_bytes=256 << 10),
    Row("x86-64-v4-vnni", X86, "x86-64-v4", "cc", 32, attributes=("+avx512vnni",)),
    Row("arm64", ARM, "cortex-a53", GCC, 32, l2_bytes=512 << 10, llc_share_bytes=0),
    Row("arm64-dotprod", ARM, "cortex-a55", GCC, 32, l2_bytes=512 << 10, llc_share_bytes=1 << 20),
    Row("arm64-i8mm", ARM, "cortex-a76", GCC, 32, llc_share_bytes=1 << 20, attributes=("+i8mm",)),
    Row("armv7", ARM32, "cortex-a7", GCC32, 16, l2_bytes=512 << 10, llc_share_bytes=0),
    Row("rpi3", ARM, "cortex-a53", GCC, 32, l2_bytes=512 << 10, llc_share_bytes=0),
    Row("rpi4", ARM, "cortex-a72", GCC, 32, llc_share_bytes=0),
    Row("rpi5", ARM, "cortex-a76", GCC, 32, 64 << 10, 512 << 10, 1 << 20),
    Row("jetson-orin-cpu", ARM, "cortex-a78", GCC, 32, 64 << 10, 256 << 10, 1 << 20),
)


def native() -> CpuTarget:
    """Return the target of this machine, with AMX where the processor has it."""
    return replace(this_machine(host()), name="native")


def this_machine(here: Host) -> CpuTarget:
    """Return the target of ``here``."""
    triple, cpu = f"{here.machine}-linux-gnu", codegen.llvm_get_system_cpu()
    wide = here.machine == "aarch64" or "avx512vl" in here.flags
    row = Row(
        "native",
        triple,
        cpu,
        "cc",
        32 if wide else 16,
        _cache_bytes("index0", 32 << 10),
        _cache_bytes("index2", 1 << 20),
        _cache_bytes("index3", 32 << 20) // SHARERS,
        # LLVM names a processor by its model number, which virtual machines misreport.
        corrections(Processor(triple, cpu), here),
    )
    return row.target()


def corrections(named: Processor, here: Host) -> tuple[str, ...]:
    """Return what the machine has beyond, "+x", and below, "-x", the processor that LLVM names."""
    if named.triple != X86 or not here.flags:
        return ()
    lost = here.lacking(named.instructions())
    tiles = ("+amx-tile", "+amx-int8") if {"amx_tile", "amx_int8"} <= here.flags else ()
    return (*tiles, *(f"-{name}" for name in lost))


def spelled(name: str) -> CpuTarget:
    """Return the target of ``TRIPLE,CPU[,+FEATURE...]``, with caches as most processors have.

    Raises:
        TargetError: the triple, the processor or a feature is unknown; close names are offered.
    """
    found = parse(name)
    wide = found.triple == ARM or "avx512vl" in found.features()
    registers, compiler = 32 if wide else 16, COMPILERS[found.triple]
    sizes = 32 << 10, 512 << 10, 1 << 20
    row = Row(name, found.triple, found.cpu, compiler, registers, *sizes, found.attributes)
    return row.target()


def _cache_bytes(index: str, usual: int) -> int:
    size = Path("/sys/devices/system/cpu/cpu0/cache") / index / "size"
    return int(size.read_text().strip().rstrip("K")) << 10 if size.exists() else usual
