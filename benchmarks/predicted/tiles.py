"""Register tiles of the direct kernels: the one that the package picks, and the best one.

Every tile is compiled, and LLVM's model of the processor says how many MACs per cycle its hot
loop makes. Of these, those count that the layer needs: tiles at its edges compute some pixels
twice. Sums that do not fit the registers are stores in the loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import click
import tvm
from tvm import transform
from tvm.tirx import transform as tirx

from gmpq.backends.tvm.codegen.cpu import LOWERING
from gmpq.backends.tvm.kernels.base import Call, Candidate
from gmpq.backends.tvm.kernels.cpu.direct import arm_mmla, arm_neon, direct
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan_on
from gmpq.backends.tvm.plan.registry import CPU
from gmpq.backends.tvm.target import CpuTarget, find_cpu
from gmpq.ir import Conv2d
from predicted import loops, mca
from versus.layer import Layer, one_layer

HEADER = (
    *("processor", "layer", "bits", "kernel", "tiles"),
    *("picked", "MACs/cycle", "stores in its loop", "best", "its MACs/cycle", "ratio"),
)
LAYERS = (Layer(28, 128, 128, 3, 1, 1), Layer(14, 576, 96, 1, 1, 1), Layer(7, 256, 256, 3, 1, 1))
EVERY = 1000  # more tiles than there are
TILE = re.compile(r"(\d+)x(\d+) pixels x (\d+) vectors")
ORDER = re.compile(r", (rows|blocks) outside")  # of loops around the hot one
LANES = 4  # outputs of a vector

Tiles: TypeAlias = Callable[[Site, int], Sequence[Candidate]]


@dataclass(frozen=True, slots=True)
class Case:
    """A processor that LLVM has a model of, the target for it, and a kernel family."""

    processor: str
    target: str
    family: str
    tiles: Tiles
    bits: tuple[int, ...] = (8,)


NEON = ("direct_neon", arm_neon.candidates, (8, 4, 2))
CASES = (
    Case("cortex-a53", "rpi3", *NEON),
    Case("cortex-a72", "rpi4", *NEON),
    Case("cortex-a55", "arm64-dotprod", "direct", direct.candidates),
    Case("neoverse-n1", "aarch64-linux-gnu,neoverse-n1", "direct", direct.candidates),
    Case("neoverse-v1", "aarch64-linux-gnu,neoverse-v1", "direct", direct.candidates),
    Case("neoverse-v1", "aarch64-linux-gnu,neoverse-v1", "direct_mmla", arm_mmla.candidates),
)


@dataclass(frozen=True, slots=True)
class Loop:
    """The hot loop of a tile."""

    tile: str
    macs: float  # per cycle, of the layer
    stores: int


def rows(processors: Sequence[str], layers: Sequence[Layer] = LAYERS) -> Iterator[tuple[str, ...]]:
    """Yield the cells of ``HEADER`` for every case of ``processors``."""
    for case in (each for each in CASES if each.processor in processors):
        for layer, bits in product(layers, case.bits):
            yield row(case, layer, bits)


def row(case: Case, layer: Layer, bits: int) -> tuple[str, ...]:
    """Return the cells of ``HEADER``; the first candidate is what the package picks."""
    site = site_of(layer, bits, find_cpu(case.target))
    tried = [_loop(each, site, case.processor) for each in case.tiles(site, EVERY)]
    picked, best = tried[0], max(tried, key=lambda loop: loop.macs)
    return (
        *(case.processor, str(layer), f"w{bits}a{bits}", case.family, str(len(tried))),
        *(picked.tile, f"{picked.macs:.1f}", str(picked.stores)),
        *(best.tile, f"{best.macs:.1f}", f"{picked.macs / best.macs:.2f}"),
    )


def site_of(layer: Layer, bits: int, target: CpuTarget) -> Site:
    """Return the layer's convolution."""
    found: list[Site] = []

    def note(site: Site, choices: Sequence[Choice]) -> Verdict:
        if isinstance(site.node, Conv2d):
            found.append(site)
        return cheapest(site, choices)

    plan_on(CPU, one_layer(layer, bits, bell=True), target, note)
    return found[0]


def _loop(candidate: Candidate, site: Site, processor: str) -> Loop:
    text = _assembly(candidate.build(), site.target)
    body = loops.hot([line.split("//")[0].rstrip() for line in text.splitlines()])
    if not body:
        raise click.ClickException(f"{candidate.configuration}: has no loop that multiplies")
    a_cycle = mca.macs(body) / mca.block_cycles(body, processor)
    stores = sum(line.split()[0].startswith("st") for line in body)
    tile = ORDER.sub("", candidate.configuration)
    return Loop(tile, a_cycle * needed(candidate.configuration, site), stores)


def needed(tile: str, site: Site) -> float:
    """Return the share of what tiles compute that the layer needs."""
    found = TILE.match(tile)
    assert found is not None
    y, share = site.output.codes, 1.0
    sizes = (y.height, y.width, -(-y.channels // LANES))
    for size, step in zip(sizes, map(int, found.groups()), strict=True):
        share *= size / (-(-size // step) * step)
    return share


def _assembly(call: Call, target: CpuTarget) -> str:
    """Return the assembler text of a kernel."""
    llvm = target.tvm()
    module = tvm.IRModule({"kernel": call.function})
    passes = transform.Sequential([tirx.BindTarget(llvm.with_host(llvm)), *LOWERING])
    built = tvm.get_global_func("target.build.llvm")(passes(module), llvm)
    return str(built.inspect_source("s"))
