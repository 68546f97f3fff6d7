"""Convolutions on several processors: predicted multiplications a cycle."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.instruction_counts import Block, counted, instructions
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram
from gmpq.backends.tvm.kernels.base import Candidate, Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest
from gmpq.backends.tvm.target import Target, find_cpu
from gmpq.ir import Conv2d
from predicted import mca
from versus.layer import Layer, one_layer

LAYER = Layer(28, 128, 128, 3, 1, 1)
HEADER = (
    "processor",
    "bits",
    "kernel",
    "MACs/cycle, hot loop",
    "instructions' limit",
    "MACs a cycle, whole layer",
    "instructions per MAC",
)
CONVOLUTION = 1  # the step between those that quantize and dequantize


class Bits(NamedTuple):
    """Of weights and of codes."""

    weights: int
    codes: int

    def __str__(self) -> str:
        return f"w{self.weights}a{self.codes}"


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel family at some bits for a target, and LLVM's model of a processor that runs it.

    ``limit`` are the MACs per cycle that its instructions allow.
    """

    processor: str
    target: str
    family: str
    bits: Bits
    limit: float


W1A1, W2A2, W2A3, W3A3, W4A4, W8A8 = (
    Bits(*each) for each in ((1, 1), (2, 2), (2, 3), (3, 3), (4, 4), (8, 8))
)
COUNTED = {W1A1: 3, W2A2: 8, W2A3: 12, W3A3: 21}  # instructions of bitserial for 128 MACs


def _counting(processor: str, target: str, vectors: int, *bits: Bits) -> tuple[Case, ...]:
    """Return cases of a processor that takes ``vectors`` instructions a cycle."""
    limits = (128 * vectors / COUNTED[each] for each in bits)
    return tuple(
        Case(processor, target, "bitserial", each, limit)
        for each, limit in zip(bits, limits, strict=True)
    )


CASES = (
    Case("cortex-a53", "rpi3", "direct_neon", W8A8, 8),
    Case("cortex-a53", "rpi3", "direct_neon", W4A4, 8),
    Case("cortex-a53", "rpi3", "direct_neon", W3A3, 16),
    Case("cortex-a53", "rpi3", "direct_neon", W2A3, 16),
    Case("cortex-a53", "rpi3", "direct_neon", W2A2, 16),
    Case("cortex-a53", "rpi3", "direct_neon", W1A1, 16),
    *_counting("cortex-a53", "rpi3", 1, W3A3, W2A3, W2A2, W1A1),
    Case("cortex-a53", "rpi3", "winograd", W8A8, 4),
    Case("cortex-a53", "rpi3", "winograd", W4A4, 8),
    Case("cortex-a53", "rpi3", "winograd", W2A2, 8),
    Case("cortex-a72", "rpi4", "direct_neon", W8A8, 8),
    Case("cortex-a72", "rpi4", "direct_neon", W4A4, 8),
    Case("cortex-a72", "rpi4", "direct_neon", W3A3, 8),
    Case("cortex-a72", "rpi4", "direct_neon", W2A3, 8),
    Case("cortex-a72", "rpi4", "direct_neon", W2A2, 8),
    Case("cortex-a72", "rpi4", "direct_neon", W1A1, 8),
    *_counting("cortex-a72", "rpi4", 2, W3A3, W2A3, W2A2, W1A1),
    Case("cortex-a72", "rpi4", "winograd", W8A8, 4),
    Case("cortex-a72", "rpi4", "winograd", W4A4, 8),
    Case("cortex-a72", "rpi4", "winograd", W2A2, 8),
    Case("cortex-a55", "arm64-dotprod", "direct", W8A8, 16),
    *_counting("cortex-a55", "arm64-dotprod", 1, W2A3, W2A2, W1A1),
    Case("cortex-a55", "arm64-dotprod", "winograd", W4A4, 16),
    Case("cortex-a55", "arm64-dotprod", "winograd", W2A2, 16),
    Case("neoverse-n1", "rpi5", "direct", W8A8, 32),
    *_counting("neoverse-n1", "rpi5", 2, W3A3, W2A3, W2A2, W1A1),
    Case("neoverse-n1", "rpi5", "winograd", W4A4, 32),
    Case("neoverse-n1", "rpi5", "winograd", W2A2, 32),
    Case("neoverse-v1", "arm64-i8mm", "direct", W8A8, 64),
    Case("neoverse-v1", "arm64-i8mm", "direct_mmla", W8A8, 128),
    Case("neoverse-v1", "arm64-i8mm", "winograd", W4A4, 128),
    Case("neoverse-v1", "arm64-i8mm", "winograd", W2A2, 128),
)


@dataclass(frozen=True, slots=True)
class Found:
    """The cheapest kernel of a family, by the planner's own prediction, and what it runs."""

    configuration: str
    cycles: float  # that the planner predicts
    pairs: int  # of bits per product of quantized values
    blocks: Counter[Block]


def row(case: Case) -> tuple[str, ...]:
    """Return the cells of ``HEADER``.

    Raises:
        click.ClickException: the family refuses the layer.
    """
    found = of_family(LAYER, case.bits, case.target, case.family)
    if found is None:
        raise click.ClickException(f"{case.family} refuses {LAYER} at {case.bits}")
    hot = mca.hot_loop(found.blocks, case.processor) / found.pairs
    every = mca.cycles(found.blocks, case.processor)
    return (
        case.processor,
        str(case.bits),
        f"{case.family}: {found.configuration}",
        f"{hot:.1f}",
        f"{case.limit:.3g}",
        f"{LAYER.macs / every:.1f}",
        f"{instructions(found.blocks) / LAYER.macs:.3f}",
    )


def of_family(layer: Layer, bits: Bits, target: str, family: str) -> Found | None:
    """Return the cheapest kernel of a family for a layer, or None if it refuses."""
    taken: list[Candidate] = []

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        own = [choice for choice in choices if choice[0].name == family]
        verdict = cheapest(site, own or choices)
        if isinstance(site.node, Conv2d) and own:
            taken.append(verdict.choice[1])
        return verdict

    graph = one_layer(layer, bits.weights, bell=True, code_bits=bits.codes)
    with tempfile.TemporaryDirectory() as folder:
        program = build(graph, find_cpu(target), Path(folder), choose).program
        if not taken:
            return None
        image = np.zeros(graph.values["image"].shape, np.float32)
        program_ = EmulatedProgram(Path(folder), program, find_cpu(target))
        blocks = counted(program_, {"image": image}, steps=(CONVOLUTION, CONVOLUTION + 1))
    (candidate,) = taken
    assert candidate.work is not None
    pairs = max(1, round(candidate.work.executed_macs / layer.macs))
    return Found(candidate.configuration, candidate.cost, pairs, blocks)
