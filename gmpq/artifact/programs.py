"""The programs of an output directory, opened for comparing and timing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from gmpq.artifact import parity
from gmpq.artifact.files import MODEL
from gmpq.artifact.latency import Entry
from gmpq.artifact.output_parity import Returned, compare_outputs
from gmpq.artifact.parity import FLOAT_KERNELS, Parity, Trace
from gmpq.backends import reference
from gmpq.backends.base import Executable, Runnable, Tensor
from gmpq.backends.ort.program import OrtProgram, run_forced
from gmpq.backends.ort.session import (
    LEVELS,
    Level,
    Options,
    could_saturate,
    precision_setting,
)
from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.cuda.program import CudaProgram
from gmpq.backends.tvm.emulation.open import CompiledProgram, Unavailable, open_compiled
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.plan.plan import PlanOptions, fuses
from gmpq.backends.tvm.target import Target
from gmpq.errors import OutputError, TargetError
from gmpq.export.weight_storage import WeightStorage
from gmpq.files import temporary
from gmpq.ir import IntGraph
from gmpq.program import Program

INTEGER_LEVELS = (Level.EXTENDED, Level.ALL)
TVM, ORT = "tvm", "onnxruntime"
SHIPPED, UNFUSED = "shipped", "unfused"  # levels of TVM


@dataclass(frozen=True, slots=True, eq=False)
class Programs:
    """What a directory holds; ``tvm`` is None, and ``skipped`` says why, where it cannot run."""

    graph: IntGraph
    model: ModelProto
    content: bytes  # of the file that holds the model
    storage: WeightStorage
    target: Target
    tvm: CompiledProgram | None
    skipped: Mapping[str, str]


def open_programs(
    directory: Path,
    graph: IntGraph,
    storage: WeightStorage,
    target: Target,
    program: Program,
) -> Programs:
    """Return the programs in ``directory``.

    Args:
        directory: holds ``model.onnx`` and the files of TVM.
        graph: what the programs compute.
        storage: how ``model.onnx`` holds its weights.
        target: what the program of TVM is for; where it does not run here, it is emulated.
        program: what those files hold.

    Raises:
        OutputError: ``model.onnx`` cannot be read.
    """
    try:
        content = (directory / MODEL).read_bytes()
        model = onnx.load_from_string(content)
    except (OSError, ValueError, DecodeError) as error:
        raise OutputError(f"{directory / MODEL}: cannot be read: compile again") from error
    match open_compiled(directory, program, target):
        case Unavailable(reason):
            skipped = f"programs for {target.name} do not run on this machine: {reason}"
            return Programs(graph, model, content, storage, target, None, {TVM: skipped})
        case compiled:
            return Programs(graph, model, content, storage, target, compiled, {})


def check(programs: Programs, samples: list[dict[str, Tensor]]) -> Parity:
    """Return how all programs compare with the reference on ``samples``.

    A sample holds the inputs by name, float32, in the graph's shapes. Where the program of TVM
    keeps values inside kernels, a second one shows them: every node for itself, by kernels of the
    same families, chosen by predicted cycles.

    Raises:
        TargetError: onnxruntime cannot load the model, or a program that is emulated ends badly.
    """
    runs, outputs = [], []
    with temporary.folder() as folder:
        levels = _compiled_levels(programs, folder)
        for sample in samples:
            for found in _findings(programs, levels, sample):
                runs.append(parity.compare(programs.graph, found.expected, found.trace))
                if found.returned is not None:
                    outputs.append(compare_outputs(programs.graph, found.expected, found.returned))
    return parity.gather(programs.graph, runs, outputs, programs.skipped)


def _compiled_levels(programs: Programs, folder: Path) -> dict[str, Executable]:
    """Return the programs of TVM by level: the shipped one, and one that fuses nothing."""
    shipped = programs.tvm
    if shipped is None:
        return {}
    levels = [f"{level}, emulated" if shipped.emulated else level for level in (SHIPPED, UNFUSED)]
    if not fuses(programs.graph, programs.target):
        return {levels[0]: shipped}
    program = build(
        programs.graph, programs.target, folder, options=PlanOptions(fuse=False)
    ).program
    match open_compiled(folder, program, programs.target):
        case Unavailable(reason):
            raise TargetError(reason)
        case unfused:
            return dict(zip(levels, (shipped, unfused), strict=True))


def entries(programs: Programs, sample: dict[str, Tensor], threads: int) -> list[Entry]:
    """Return the programs ready to be timed on ``sample`` with ``threads`` threads.

    ``sample`` holds the inputs by name, float32, in the graph's shapes. There are none where the
    program of TVM is for another machine: times of this one would be taken for that one's.
    """
    match programs.tvm:
        case None | EmulatedProgram():
            return []
        case CudaProgram() if programs.tvm.emulated:
            return []
        case CudaProgram() as compiled:
            return [Entry(TVM, compiled, sample, f"compiled for {programs.target.name}")]
        case HostProgram() as compiled:
            compiled.network.set_threads(threads)
        case _:
            assert_never(programs.tvm)
    exact = could_saturate(programs.graph)
    options = Options(Level.ALL, threads, exact)
    ort = OrtProgram.from_model(programs.model, programs.graph, options)
    return [
        Entry(ORT, ort, sample, precision_setting(exact=exact)),
        Entry(TVM, compiled, sample, f"compiled for {programs.target.name}"),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Finding:
    """What one program made of a sample, and every value as it should be.

    ``returned`` is what the shipped file returned in one whole run.
    """

    expected: Mapping[str, Tensor]
    trace: Trace
    returned: Returned | None = None


def _findings(
    programs: Programs, levels: Mapping[str, Executable], sample: Mapping[str, Tensor]
) -> Iterator[_Finding]:
    graph = programs.graph
    expected = reference.run(graph, sample)
    torch = TorchCodes(graph)
    yield _Finding(
        expected, _trace(graph, "torch", "", torch, sample), _returned("torch", "", torch, sample)
    )
    yield from _onnxruntime(programs, sample, expected)
    for level, program in levels.items():
        trace = _trace(graph, TVM, level, program, sample)
        shipped = program is programs.tvm
        yield _Finding(expected, trace, _returned(TVM, level, program, sample) if shipped else None)


def _trace(
    graph: IntGraph, backend: str, level: str, program: Runnable, sample: Mapping[str, Tensor]
) -> Trace:
    stored = program.trace(sample)
    return Trace(backend, level, {name: x for name, x in stored.items() if graph.values[name].q})


def _returned(
    backend: str, level: str, program: Runnable, sample: Mapping[str, Tensor]
) -> Returned:
    return Returned(backend, level, list(program.run(sample).items()))


def _onnxruntime(
    programs: Programs, sample: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[_Finding]:
    graph = programs.graph
    for level in LEVELS:
        if level in INTEGER_LEVELS:
            options = Options(level, exact=could_saturate(graph))
            program = OrtProgram.from_model(programs.model, graph, options, programs.content)
            trace = _trace(graph, ORT, level.value, program, sample)
            yield _Finding(
                _following(graph, expected, trace.codes),
                trace,
                _returned(ORT, level.value, program, sample),
            )
        else:
            codes = run_forced(graph, expected, level, programs.storage)
            yield _Finding(expected, Trace(ORT, level.value, codes, FLOAT_KERNELS))


def _following(
    graph: IntGraph, expected: Mapping[str, Tensor], codes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``expected``, with what depends on an average computed from onnxruntime's ``codes``.

    Otherwise a mean that it rounds differently would lead to other differences.
    """
    values = dict(expected)
    inexact = parity.depends_on_average(graph)
    for node in graph.nodes:
        if node.output in inexact:
            inputs = [codes.get(name, values[name]) for name in node.inputs]
            values[node.output] = reference.compute(graph, node, inputs)
    return values
