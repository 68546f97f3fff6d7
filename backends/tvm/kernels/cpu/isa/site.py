"""The contract of kernels on a CPU, and what the caches between it and its weights cost."""

from __future__ import annotations

from dataclasses import replace
from operator import add
from typing import TypeAlias

from gmpq.backends.tvm.kernels import base
from gmpq.backends.tvm.kernels.base import Candidate
from gmpq.backends.tvm.target.cpu import GROUP, CpuTarget
from gmpq.ir import Conv2d, Linear

Site: TypeAlias = base.Site[CpuTarget]  # to annotate with; ``base.Site`` makes one

LLC_BYTES, DRAM_BYTES = 16, 4  # that a core reads per cycle from the last cache, and from memory


def streamed_cycles(site: Site, constants_bytes: int) -> float:
    """Return the cycles to read a layer's constants, which other layers have driven from caches."""
    kept = site.weights_stay_in_llc and constants_bytes <= site.target.llc_share_bytes
    return constants_bytes / (LLC_BYTES if kept else DRAM_BYTES)


def refuses_dense(site: Site) -> str | None:
    """Return that pixels of the input are not whole groups of channels, unless they are."""
    whole = site.inputs[0].codes.stored % GROUP == 0
    return None if whole else "pixels have no padding channels"


def arriving(site: Site, found: list[Candidate], weight_bytes: int) -> tuple[Candidate, ...]:
    """Return candidates with weights of that many bytes each, and the cycles in which they arrive.

    A fully connected layer uses none of them again, and works on while they do.
    """
    assert isinstance(site.node, Conv2d | Linear)
    total = site.node.weight.codes.size * weight_bytes
    arrival = streamed_cycles(site, total)
    together = max if isinstance(site.node, Linear) else add
    return tuple(
        replace(each, cost=together(each.cost, arrival), weight_bytes=total) for each in found
    )
