"""Using an output directory again: comparing, measuring and explaining what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gmpq import latency, manifest, programs, samples, serialize
from gmpq.accuracy import loss as losses
from gmpq.accuracy import report
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.counts import counted, instructions
from gmpq.backends.tvm.emulator import Emulated, processor
from gmpq.compile import GRAPH, LATENCY, LOSS, PARITY, SAMPLES
from gmpq.explain import Kernel, kernels_table
from gmpq.export.storage import WeightStorage
from gmpq.latency import Plan, Row
from gmpq.parity import Parity


def check_again(out: Path) -> Parity:
    """Return how all programs in ``out`` compare, on the samples that it holds.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    fields = manifest.check_files(out)
    return programs.check(open_output(out, fields), samples.read(out / SAMPLES))


def measure_again(out: Path, threads: int, plan: Plan) -> list[Row]:
    """Return the times of the programs in ``out`` on this machine.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    fields = manifest.check_files(out)
    opened = open_output(out, fields)
    found = programs.contenders(opened, samples.read(out / SAMPLES)[0], threads)
    return latency.measure(found, threads, fields["bops"], plan)


def instructions_of(out: Path) -> str | None:
    """Return in words how many instructions the program of TVM in ``out`` takes for a sample.

    None where it runs on this machine, or cannot be emulated here.

    Raises:
        OutputError: a file is missing, damaged or was changed.
        TargetError: the emulator cannot count.
    """
    opened = open_output(out, manifest.check_files(out))
    if not isinstance(opened.tvm, Emulated):
        return None
    sample = samples.read(out / SAMPLES)[0]
    blocks = counted(opened.tvm, *(sample[name] for name in opened.graph.inputs))
    target = opened.tvm.processor
    return (
        f"tvm for {target.name}: {instructions(blocks):,} instructions per run "
        f"(emulated on {processor(target)}, not a latency)"
    )


def explain_output(out: Path) -> str:
    """Return the kernel of every layer in ``out``, its time, and why others were refused.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    fields = manifest.check_files(out)
    times = json.loads((out / LATENCY).read_text("utf-8"))
    return kernels_table([Kernel(**kernel) for kernel in fields["kernels"]], times)


def explain_loss(out: Path) -> str:
    """Return what each node in ``out`` costs in accuracy, as text.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    manifest.check_files(out)
    held = json.loads((out / PARITY).read_text("utf-8"))
    return report.to_table(losses.from_json(held.get(LOSS), str(out / PARITY)))


def open_output(out: Path, fields: dict[str, Any]) -> programs.Programs:
    """Return the programs in ``out``, whose manifest has ``fields``; raises ``OutputError``."""
    graph = serialize.load(out / GRAPH)
    target = targets.find(fields["target"])
    storage = WeightStorage(fields["options"]["storage"])
    return programs.open_programs(out, graph, storage, target, fields["tvm"])
