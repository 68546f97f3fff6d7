"""Using an output directory again: comparing, measuring and explaining what it holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import assert_never

from gmpq.accuracy import report
from gmpq.accuracy.loss import Loss
from gmpq.artifact import conditions, latency, programs, samples
from gmpq.artifact.conditions import Conditions
from gmpq.artifact.contents import Contents, check_program, read_contents
from gmpq.artifact.explain import kernels_table
from gmpq.artifact.files import GRAPH, LATENCY, PARITY, SAMPLES
from gmpq.artifact.latency import Measured, Plan
from gmpq.artifact.parity import Parity
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.emulation.cuda.program import CudaProgram
from gmpq.backends.tvm.emulation.instruction_counts import counted, instructions
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram, processor
from gmpq.backends.tvm.host import HostProgram
from gmpq.errors import OutputError
from gmpq.export.weight_storage import WeightStorage
from gmpq.files import manifest, saved_graph, typed_json


@dataclass(frozen=True, slots=True)
class _Time:
    layer: str
    backend: str
    median_ms: float


@dataclass(frozen=True, slots=True)
class _Latency:
    measured_on: Conditions | None
    rows: tuple[_Time, ...]


@dataclass(frozen=True, slots=True)
class _Parity:
    loss: Loss


def check_again(out: Path) -> Parity:
    """Return how all programs in ``out`` compare, on the samples that it holds.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    opened = open_output(out, read_contents(out))
    return programs.check(opened, samples.read(out / SAMPLES, opened.graph))


def measure_again(out: Path, threads: int, plan: Plan) -> Measured:
    """Return the times of the programs in ``out`` on this machine, if they are for it.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    found = read_contents(out)
    opened = open_output(out, found)
    sample = samples.read(out / SAMPLES, opened.graph)[0]
    entries = programs.entries(opened, sample, threads)
    return latency.measure(entries, threads, found.bops, plan)


def instructions_of(out: Path) -> str | None:
    """Return as text how many instructions the program of TVM in ``out`` takes for a sample.

    None where it runs on this machine, or cannot be emulated here.

    Raises:
        OutputError: a file is missing, damaged or was changed.
        TargetError: the emulator cannot count.
    """
    opened = open_output(out, read_contents(out))
    match opened.tvm:
        case None | HostProgram() | CudaProgram():
            return None
        case EmulatedProgram() as program:
            blocks = counted(program, samples.read(out / SAMPLES, opened.graph)[0])
            return (
                f"tvm for {program.target.name}: {instructions(blocks):,} instructions per run "
                f"(emulated on {processor(program.target)}, not a latency)"
            )
        case _:
            assert_never(opened.tvm)


def explain_output(out: Path) -> str:
    """Return the kernel of every layer in ``out``, its time, and why others were refused.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    kernels = read_contents(out).kernels
    times = typed_json.read(out / LATENCY, _Latency, OutputError)
    on = times.measured_on
    above = "" if on is None else conditions.to_text(on) + "\n\n"
    return above + kernels_table(kernels, [asdict(row) for row in times.rows])


def explain_loss(out: Path) -> str:
    """Return what each node in ``out`` costs in accuracy, as text.

    Raises:
        OutputError: a file is missing, damaged or was changed.
    """
    manifest.check_files(out)
    return report.to_table(typed_json.read(out / PARITY, _Parity, OutputError).loss)


def open_output(out: Path, found: Contents) -> programs.Programs:
    """Return the programs in ``out``, whose manifest holds ``found``; raises ``OutputError``."""
    graph = saved_graph.load(out / GRAPH)
    check_program(out, found.program, graph)
    try:
        storage = WeightStorage(found.options.storage)
    except ValueError as error:
        raise OutputError(f"{out / manifest.NAME}: damaged: {error}: compile again") from error
    return programs.open_programs(out, graph, storage, targets.find(found.target), found.program)
