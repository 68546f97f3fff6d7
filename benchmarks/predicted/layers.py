"""One convolution on several processors: predicted multiplications a cycle."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from gmpq.backends.tvm.build import build
from gmpq.backends.tvm.counts import Block, counted, instructions
from gmpq.backends.tvm.emulator import Emulated
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan import Choice, Verdict, cheapest
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d
from predicted import mca
from versus.layer import Layer, one_layer

LAYER = Layer(28, 128, 128, 3, 1, 1)
HEADER = (
    "processor",
    "bits",
    "kernel",
    "products a cycle, hot loop",
    "multiplier's limit",
    "MACs a cycle, whole layer",
    "instructions per MAC",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel family at some bits for a target, and LLVM's model of a processor that runs it.

    ``limit`` are the products that the processor multiplies in a cycle.
    """

    processor: str
    target: str
    family: str
    bits: int
    limit: float


CASES = (
    Case("cortex-a53", "rpi3", "direct_neon", 8, 8),
    Case("cortex-a53", "rpi3", "direct_neon", 4, 8),
    Case("cortex-a53", "rpi3", "direct_neon", 2, 16),
    Case("cortex-a53", "rpi3", "winograd", 8, 4),
    Case("cortex-a53", "rpi3", "winograd", 4, 8),
    Case("cortex-a53", "rpi3", "winograd", 2, 8),
    Case("cortex-a72", "rpi4", "direct_neon", 8, 8),
    Case("cortex-a72", "rpi4", "direct_neon", 4, 8),
    Case("cortex-a72", "rpi4", "direct_neon", 2, 8),
    Case("cortex-a72", "rpi4", "winograd", 8, 4),
    Case("cortex-a72", "rpi4", "winograd", 4, 8),
    Case("cortex-a72", "rpi4", "winograd", 2, 8),
    Case("cortex-a55", "arm64-dotprod", "direct", 8, 16),
    Case("cortex-a55", "arm64-dotprod", "winograd", 4, 16),
    Case("cortex-a55", "arm64-dotprod", "winograd", 2, 16),
    Case("neoverse-n1", "rpi5", "direct", 8, 32),
    Case("neoverse-n1", "rpi5", "winograd", 4, 32),
    Case("neoverse-n1", "rpi5", "winograd", 2, 32),
    Case("neoverse-v1", "arm64-i8mm", "direct", 8, 64),
    Case("neoverse-v1", "arm64-i8mm", "direct_mmla", 8, 128),
    Case("neoverse-v1", "arm64-i8mm", "winograd", 4, 128),
    Case("neoverse-v1", "arm64-i8mm", "winograd", 2, 128),
)


def row(case: Case) -> tuple[str, ...]:
    """Return the cells of ``HEADER``."""
    chosen, blocks = _blocks(case)
    hot, every = mca.hot_loop(blocks, case.processor), mca.cycles(blocks, case.processor)
    return (
        case.processor,
        f"w{case.bits}a{case.bits}",
        f"{case.family}: {chosen}",
        f"{hot:.1f}",
        f"{case.limit:g}",
        f"{LAYER.macs / every:.1f}",
        f"{instructions(blocks) / LAYER.macs:.3f}",
    )


def _blocks(case: Case) -> tuple[str, Counter[Block]]:
    """Return the configuration of the cheapest kernel of the family, and what it runs."""
    taken: list[str] = []

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        own = [choice for choice in choices if choice[0].name == case.family]
        verdict = cheapest(site, own or choices)
        if isinstance(site.node, Conv2d):
            taken.append(verdict.choice[1].configuration)
        return verdict

    graph, target = one_layer(LAYER, case.bits, bell=True), find(case.target)
    with tempfile.TemporaryDirectory() as folder:
        program = build(graph, target, Path(folder), choose).program
        if program["steps"][1]["kernel"] != case.family:
            raise click.ClickException(f"{case.family} refuses {LAYER} at {case.bits} bits")
        image = np.zeros(graph.values["image"].shape, np.float32)
        return taken[0], counted(Emulated(Path(folder), program, target), image)
