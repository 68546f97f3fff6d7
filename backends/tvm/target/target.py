"""All kinds of targets as one closed union, and how a name finds its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from gmpq.backends.tvm.target import cpu, gpu
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.backends.tvm.target.gpu import GpuTarget
from gmpq.backends.tvm.target.layout_rules import LayoutRules
from gmpq.errors import TargetError, closest

Target: TypeAlias = CpuTarget | GpuTarget  # what differs between its members is behind ``match``

NAMES = ("native", *(row.name for row in cpu.ROWS), *(row.name for row in gpu.ROWS))
RENAMED = {"jetson-orin": "jetson-orin-cpu"}  # until the next version


class AnyTarget(Protocol):
    """What every kind of target offers; the rest is behind ``match``."""

    @property
    def name(self) -> str:
        """What ``find`` takes."""

    @property
    def machine(self) -> str:
        """The processor that starts its programs, as ``uname -m`` names it."""

    @property
    def layout_rules(self) -> LayoutRules:
        """How values lie in its memory."""

    @property
    def llc_share_bytes(self) -> int:
        """What constants may take of the last-level cache before memory must deliver them."""

    @property
    def flush_bytes(self) -> int:
        """Bytes that evict the operands of a kernel from all caches but the last when read."""

    @property
    def value_cache_bytes(self) -> int | None:
        """The cache of a core, in which values may stay until they are read; None if unknown."""

    @property
    def params_ratio(self) -> float:
        """What weights may take at most, relative to one byte each, by default."""

    def runs_here(self) -> bool:
        """Return whether this machine runs programs of the target."""

    def fingerprint(self) -> Mapping[str, object]:
        """Return, as JSON values, what the time of a kernel on the target depends on."""


def find(name: str) -> Target:
    """Return the target called ``name``, or the processor that it spells out.

    Raises:
        TargetError: No target or processor has that name; close names are offered.
    """
    name = RENAMED.get(name, name)
    if name == "native":
        return cpu.native()
    if "," in name:
        return cpu.spelled(name)
    for row in cpu.ROWS:
        if row.name == name:
            return row.target()
    for architecture in gpu.ROWS:
        if architecture.name == name:
            return architecture
    raise TargetError(
        f"target {name!r} is unknown{closest(name, NAMES)}: choose one of {', '.join(NAMES)}, "
        "or give TRIPLE,CPU[,+FEATURE...]"
    )


def find_cpu(name: str) -> CpuTarget:
    """Return the processor called ``name``, or spelled out so.

    Raises:
        TargetError: No target or processor has that name, or it is a GPU.
    """
    found = find(name)
    if not isinstance(found, CpuTarget):
        raise TargetError(f"target {name!r} is a GPU: choose a processor")
    return found


def rename_warnings(name: str) -> tuple[str, ...]:
    """Return a line for the user if ``name`` is the old name of a target."""
    if name not in RENAMED:
        return ()
    return (
        f"target {name!r} is now called {RENAMED[name]!r}: the next version drops the old name",
    )
