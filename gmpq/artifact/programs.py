"""The programs of an output directory, opened for comparing and timing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from gmpq.artifact import parity
from gmpq.artifact.files import MODEL
from gmpq.artifact.latency import Contender
from gmpq.artifact.output_parity import Returned, compare_outputs
from gmpq.artifact.parity import FLOAT_KERNELS, Parity, Trace
from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.ort.latency import layer_samples
from gmpq.backends.ort.program import exposed_codes, run_forced
from gmpq.backends.ort.session import (
    LEVELS,
    Level,
    Options,
    could_saturate,
    open_session,
    precision_setting,
    run,
)
from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.emulation.qemu import Emulated
from gmpq.backends.tvm.plan.fusion import fusions
from gmpq.backends.tvm.target import cpu
from gmpq.backends.tvm.target.cpu import Target
from gmpq.errors import OutputError
from gmpq.export.weight_storage import WeightStorage
from gmpq.files import temporary
from gmpq.ir import IntGraph
from gmpq.runtime import Network

INTEGER_LEVELS = (Level.EXTENDED, Level.ALL)
TVM, ORT = "tvm", "onnxruntime"
SHIPPED, UNFUSED = "shipped", "unfused"  # levels of TVM


@dataclass(frozen=True, slots=True, eq=False)
class Programs:
    """What a directory holds; ``tvm`` is None, and ``absent`` says why, where it cannot run."""

    graph: IntGraph
    model: ModelProto
    content: bytes  # of the file that holds the model
    storage: WeightStorage
    tvm: Network | Emulated | None
    absent: Mapping[str, str]


def open_programs(
    directory: Path,
    graph: IntGraph,
    storage: WeightStorage,
    target: Target,
    program: Mapping[str, Any],
) -> Programs:
    """Return the programs in ``directory``.

    Args:
        directory: holds ``model.onnx`` and the files of TVM.
        graph: what the programs compute.
        storage: how ``model.onnx`` holds its weights.
        target: what the program of TVM is for; where it does not run here, it is emulated.
        program: what ``gmpq.runtime`` needs to know.

    Raises:
        OutputError: ``model.onnx`` cannot be read.
    """
    try:
        content = (directory / MODEL).read_bytes()
        model = onnx.load_from_string(content)
    except (OSError, ValueError, DecodeError) as error:
        raise OutputError(f"{directory / MODEL}: cannot be read: compile again") from error
    if target.runs_here():
        return Programs(graph, model, content, storage, Network(directory, program), {})
    if (reason := qemu.missing(target)) is None:
        return Programs(graph, model, content, storage, Emulated(directory, program, target), {})
    absent = f"programs for {target.name} do not run on this machine: {reason}"
    return Programs(graph, model, content, storage, None, {TVM: absent})


def check(programs: Programs, samples: list[dict[str, Tensor]]) -> Parity:
    """Return how all programs compare with the reference on float32 ``samples``.

    Where the program of TVM keeps values inside kernels, a second one shows them: every node for
    itself, by kernels of the same families, chosen by predicted cycles.
    """
    runs, outputs = [], []
    with temporary.folder() as folder:
        networks = _networks(programs, folder)
        for sample in samples:
            for found in _findings(programs, networks, sample):
                runs.append(parity.compare(programs.graph, found.expected, found.trace))
                if found.returned is not None:
                    outputs.append(compare_outputs(programs.graph, found.expected, found.returned))
    return parity.gather(programs.graph, runs, outputs, programs.absent)


def _networks(programs: Programs, folder: Path) -> dict[str, Network | Emulated]:
    """Return the programs of TVM by level: the shipped one, and one that fuses nothing."""
    if programs.tvm is None:
        return {}
    emulated = isinstance(programs.tvm, Emulated)
    shipped, alone = (f"{level}, emulated" if emulated else level for level in (SHIPPED, UNFUSED))
    if not fusions(programs.graph):
        return {shipped: programs.tvm}
    target = cpu.find(programs.tvm.target)
    program = build(programs.graph, target, folder, fuse=False).program
    unfused = Emulated(folder, program, target) if emulated else Network(folder, program)
    return {shipped: programs.tvm, alone: unfused}


def contenders(programs: Programs, sample: dict[str, Tensor], threads: int) -> list[Contender]:
    """Return the programs ready to be timed on ``sample`` with ``threads`` threads.

    There are none where the program of TVM is for another machine: times of this one would be taken
    for that one's.
    """
    network = programs.tvm
    if not isinstance(network, Network):
        return []
    network.set_threads(threads)
    inputs = [sample[name] for name in programs.graph.inputs]
    exact = could_saturate(programs.graph)
    session = open_session(programs.model, Options(Level.ALL, threads, exact))
    return [
        Contender(
            ORT,
            lambda: session.run(None, sample),
            lambda runs: layer_samples(programs.model, programs.graph, sample, threads, runs),
            precision_setting(exact=exact),
        ),
        Contender(
            TVM,
            lambda: network.run(*inputs),
            lambda runs: _step_times(network, inputs, runs),
            f"compiled for {network.target}",
        ),
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
    programs: Programs, networks: Mapping[str, Network | Emulated], sample: Mapping[str, Tensor]
) -> Iterator[_Finding]:
    graph = programs.graph
    expected = reference.run(graph, sample)
    torch = TorchCodes(graph)
    yield _Finding(
        expected,
        Trace("torch", "", torch.tensors(sample)),
        Returned("torch", "", list(torch.run(sample).items())),
    )
    yield from _onnxruntime(programs, sample, expected)
    inputs = [sample[name] for name in graph.inputs]
    for level, network in networks.items():
        codes = {name: x for name, x in network.trace(*inputs) if graph.values[name].q}
        shipped = network is programs.tvm
        returned = Returned(TVM, level, network.run_checked(*inputs)) if shipped else None
        yield _Finding(expected, Trace(TVM, level, codes), returned)


def _onnxruntime(
    programs: Programs, sample: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[_Finding]:
    graph = programs.graph
    for level in LEVELS:
        if level in INTEGER_LEVELS:
            options = Options(level, exact=could_saturate(graph))
            codes = exposed_codes(programs.model, graph, options, sample)
            session = open_session(programs.content, options)
            outputs = list(run(session, sample).items())
            yield _Finding(
                _following(graph, expected, codes),
                Trace(ORT, level.value, codes),
                Returned(ORT, level.value, outputs),
            )
        else:
            codes = run_forced(graph, expected, level, programs.storage)
            yield _Finding(expected, Trace(ORT, level.value, codes, FLOAT_KERNELS))


def _following(
    graph: IntGraph, expected: Mapping[str, Tensor], codes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``expected``, with what depends on an average computed from onnxruntime's ``codes``.

    A mean that it rounds its own way would lead to other differences else.
    """
    values = dict(expected)
    inexact = parity.depends_on_average(graph)
    for node in graph.nodes:
        if node.output in inexact:
            inputs = [codes.get(name, values[name]) for name in node.inputs]
            values[node.output] = reference.compute(graph, node, inputs)
    return values


def _step_times(network: Network, inputs: list[Tensor], runs: int) -> dict[str, list[float]]:
    step = network.stepper(*inputs)
    spent: dict[str, list[float]] = {found.node: [] for found in network.steps}
    for _ in range(runs):
        for index, found in enumerate(network.steps):
            before = time.perf_counter()
            step(index, index + 1)
            spent[found.node].append((time.perf_counter() - before) * 1e3)
    return spent
