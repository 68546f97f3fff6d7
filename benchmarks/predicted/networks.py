"""Whole networks under the emulator: exact or not, and instructions per inference."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.instruction_counts import Block, counted, instructions
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram
from gmpq.backends.tvm.target import find_cpu
from predicted import mca
from versus.policies import choose
from versus.subject import Subject

HEADER = ("network", "bits", "target", "exact", "M instructions", "M predicted cycles", "GBOPs")
PROCESSORS = {  # LLVM's model of a processor, by target; it has none of those of armv7
    "armv7": None,
    "arm64": "cortex-a53",
    "rpi3": "cortex-a53",
    "rpi4": "cortex-a72",
    "arm64-dotprod": "cortex-a55",
    "rpi5": "cortex-a76",
    "jetson-orin-cpu": "cortex-a78",
    "arm64-i8mm": "neoverse-v1",
}


def row(subject: Subject, bits: str, target: str, *, cycles: bool) -> tuple[str, ...]:
    """Return the cells of ``HEADER``; predicting ``cycles`` takes a minute or two."""
    policy = choose(bits, subject.name, subject.macs, 0)
    graph = subject.quantized(policy)
    expected = reference.run(graph, {graph.inputs[0]: subject.image})
    with tempfile.TemporaryDirectory() as folder:
        program = build(graph, find_cpu(target), Path(folder)).program
        emulated = EmulatedProgram(Path(folder), program, find_cpu(target))
        inputs = {graph.inputs[0]: subject.image}
        outputs = emulated.run(inputs).items()
        exact = all(np.array_equal(output, expected[name]) for name, output in outputs)
        blocks = counted(emulated, inputs)
    return (
        subject.name,
        bits,
        target,
        "yes" if exact else "NO",
        f"{instructions(blocks) / 1e6:.1f}",
        _predicted(blocks, PROCESSORS[target] if cycles else None),
        f"{subject.cost(policy).bops / 1e9:.1f}",
    )


def _predicted(blocks: Counter[Block], processor: str | None) -> str:
    if processor is None:
        return "-"
    return f"{mca.cycles(blocks, processor) / 1e6:.1f} ({processor})"
