"""Targets: one row each of what a program is compiled for and where it can run.

Beside these rows, ``TRIPLE,CPU[,+FEATURE...]`` names any processor that LLVM knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import tvm
from tvm.target import codegen

from gmpq.backends.host import Host, host
from gmpq.backends.tvm.target.llvm import ARM, ARM32, X86, Processor, parse
from gmpq.errors import TargetError, closest

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


@dataclass(frozen=True, slots=True)
class Target:
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

    def llvm(self) -> tvm.target.Target:
        """Return the target in TVM's words."""
        return self.processor().llvm()

    @property
    def params_ratio(self) -> float:
        """What weights may take in times of a byte each, unless the user says otherwise."""
        return inf if self.triple.startswith("x86_64") else BOARD_RATIO

    def runs_here(self) -> bool:
        """Tell whether this machine has the architecture and all instructions of the target."""
        here = native()
        return self.triple == here.triple and self.instructions() <= here.instructions()

    def instructions(self) -> frozenset[str]:
        """Return LLVM's names of all that the target's code may use."""
        return self.processor().instructions() | self.features

    def processor(self) -> Processor:
        """Return what LLVM knows of the target."""
        return Processor(self.triple, self.cpu, self.attributes)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    triple: str
    cpu: str
    compiler: str
    vector_registers: int
    l1d_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    llc_share_bytes: int = 8 << 20
    attributes: tuple[str, ...] = ()


SHARERS = 4  # a last-level cache is as large as it says for all cores, and other guests, together
GCC, GCC32 = f"{ARM}-gcc", f"{ARM32}-gcc"
COMPILERS = {X86: "cc", ARM: GCC, ARM32: GCC32}
ROWS = (
    _Row("x86-64-v3", X86, "x86-64-v3", "cc", 16, l2_bytes=256 << 10),
    _Row("x86-64-v4-vnni", X86, "x86-64-v4", "cc", 32, attributes=("+avx512vnni",)),
    _Row("arm64", ARM, "cortex-a53", GCC, 32, l2_bytes=512 << 10, llc_share_bytes=0),
    _Row("arm64-dotprod", ARM, "cortex-a55", GCC, 32, l2_bytes=512 << 10, llc_share_bytes=1 << 20),
    _Row("arm64-i8mm", ARM, "cortex-a76", GCC, 32, llc_share_bytes=1 << 20, attributes=("+i8mm",)),
    _Row("armv7", ARM32, "cortex-a7", GCC32, 16, l2_bytes=512 << 10, llc_share_bytes=0),
    _Row("rpi3", ARM, "cortex-a53", GCC, 32, l2_bytes=512 << 10, llc_share_bytes=0),
    _Row("rpi4", ARM, "cortex-a72", GCC, 32, llc_share_bytes=0),
    _Row("rpi5", ARM, "cortex-a76", GCC, 32, 64 << 10, 512 << 10, 1 << 20),
    _Row("jetson-orin", ARM, "cortex-a78", GCC, 32, 64 << 10, 256 << 10, 1 << 20),
)

NAMES = ("native", *(row.name for row in ROWS))


def find(name: str) -> Target:
    """Return the target called ``name``, or the processor that it spells out.

    Raises:
        TargetError: No target or processor has that name; close names are offered.
    """
    if name == "native":
        return native()
    if "," in name:
        return _spelled(name)
    for row in ROWS:
        if row.name == name:
            return _target(row)
    raise TargetError(
        f"target {name!r} is unknown{closest(name, NAMES)}: choose one of {', '.join(NAMES)}, "
        "or give TRIPLE,CPU[,+FEATURE...]"
    )


def native() -> Target:
    """Return the target of this machine, with AMX where the processor has it."""
    return replace(this_machine(host()), name="native")


def this_machine(here: Host) -> Target:
    """Return the target of ``here``."""
    triple, cpu = f"{here.machine}-linux-gnu", codegen.llvm_get_system_cpu()
    wide = here.machine == "aarch64" or "avx512vl" in here.flags
    row = _Row(
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
    return _target(row)


def corrections(named: Processor, here: Host) -> tuple[str, ...]:
    """Return what the machine has beyond, "+x", and below, "-x", the processor that LLVM names."""
    if named.triple != X86 or not here.flags:
        return ()
    lost = here.lacking(named.instructions())
    tiles = ("+amx-tile", "+amx-int8") if {"amx_tile", "amx_int8"} <= here.flags else ()
    return (*tiles, *(f"-{name}" for name in lost))


def _spelled(name: str) -> Target:
    """Return the target of ``TRIPLE,CPU[,+FEATURE...]``, with caches as most processors have."""
    found = parse(name)
    wide = found.triple == ARM or "avx512vl" in found.features()
    registers, compiler = 32 if wide else 16, COMPILERS[found.triple]
    sizes = 32 << 10, 512 << 10, 1 << 20
    row = _Row(name, found.triple, found.cpu, compiler, registers, *sizes, found.attributes)
    return _target(row)


def _target(row: _Row) -> Target:
    features = Processor(row.triple, row.cpu, row.attributes).features()
    return Target(
        row.name,
        row.triple,
        row.cpu,
        row.attributes,
        (INSTRUCTION_SETS & features) - (DOTS if row.triple == ARM32 else frozenset()),
        row.compiler,
        row.vector_registers,
        row.l1d_bytes,
        row.l2_bytes,
        row.llc_share_bytes,
    )


def _cache_bytes(index: str, usual: int) -> int:
    size = Path("/sys/devices/system/cpu/cpu0/cache") / index / "size"
    return int(size.read_text().strip().rstrip("K")) << 10 if size.exists() else usual
