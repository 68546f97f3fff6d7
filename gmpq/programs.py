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

from gmpq import parity, temporary
from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.ort.latency import layer_samples
from gmpq.backends.ort.program import OrtProgram, run_forced
from gmpq.backends.ort.session import (
    LEVELS,
    Level,
    Options,
    could_saturate,
    open_session,
    precision_setting,
)
from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.tvm import emulator
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.build import build
from gmpq.backends.tvm.emulator import Emulated
from gmpq.backends.tvm.fuse import fusions
from gmpq.backends.tvm.target import Target
from gmpq.errors import OutputError
from gmpq.export.storage import WeightStorage
from gmpq.ir import IntGraph
from gmpq.latency import Contender
from gmpq.parity import EXACT, FLOAT_KERNELS, Parity, Trace
from gmpq.runtime import Network

MODEL = "model.onnx"
INTEGER_LEVELS = (Level.EXTENDED, Level.ALL)
TVM, ORT = "tvm", "onnxruntime"
SHIPPED, UNFUSED = "shipped", "unfused"  # levels of TVM


@dataclass(frozen=True, slots=True, eq=False)
class Programs:
    """What a directory holds; ``tvm`` is None, and ``absent`` says why, where it cannot run."""

    graph: IntGraph
    model: ModelProto
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
        model = onnx.load(directory / MODEL)
    except (OSError, ValueError, DecodeError) as error:
        raise OutputError(f"{directory / MODEL}: cannot be read: compile again") from error
    if target.runs_here():
        return Programs(graph, model, storage, Network(directory, program), {})
    if (reason := emulator.missing(target)) is None:
        return Programs(graph, model, storage, Emulated(directory, program, target), {})
    absent = f"programs for {target.name} do not run on this machine: {reason}"
    return Programs(graph, model, storage, None, {TVM: absent})


def check(programs: Programs, samples: list[dict[str, Tensor]]) -> Parity:
    """Return how all programs compare with the reference on float32 ``samples``.

    Where the program of TVM keeps values inside kernels, a second one shows them: every node for
    itself, by kernels of the same families, chosen by predicted cycles.
    """
    runs = []
    with temporary.folder() as folder:
        networks = _networks(programs, folder)
        for sample in samples:
            expected = reference.run(programs.graph, sample)
            runs += [
                parity.compare(programs.graph, expected, trace)
                for trace in _traces(programs, networks, sample, expected)
            ]
    return parity.gather(programs.graph, runs, programs.absent)


def _networks(programs: Programs, folder: Path) -> dict[str, Network | Emulated]:
    """Return the programs of TVM by level: the shipped one, and one that fuses nothing."""
    if programs.tvm is None:
        return {}
    emulated = isinstance(programs.tvm, Emulated)
    shipped, alone = (f"{level}, emulated" if emulated else level for level in (SHIPPED, UNFUSED))
    if not fusions(programs.graph):
        return {shipped: programs.tvm}
    target = targets.find(programs.tvm.target)
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


def _traces(
    programs: Programs,
    networks: Mapping[str, Network | Emulated],
    sample: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
) -> Iterator[Trace]:
    graph = programs.graph
    yield Trace("torch", "", TorchCodes(graph).tensors(sample))
    yield from _onnxruntime(programs, sample, expected)
    inputs = [sample[name] for name in graph.inputs]
    for level, network in networks.items():
        codes = {name: x for name, x in network.trace(*inputs) if graph.values[name].q}
        yield Trace(TVM, level, codes)


def _onnxruntime(
    programs: Programs, sample: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[Trace]:
    graph = programs.graph
    inexact = parity.depends_on_average(graph)
    for level in LEVELS:
        integer = level in INTEGER_LEVELS
        codes: dict[str, Tensor] = {}
        if inexact or not integer:
            codes |= run_forced(graph, expected, level, programs.storage)
        if integer:
            options = Options(level, exact=could_saturate(graph))
            program = OrtProgram.from_model(programs.model, graph, options)
            shipped = program.tensors(sample)
            codes |= {name: x for name, x in shipped.items() if name not in inexact}
        yield Trace(ORT, level.value, codes, EXACT if integer else FLOAT_KERNELS)


def _step_times(network: Network, inputs: list[Tensor], runs: int) -> dict[str, list[float]]:
    step = network.stepper(*inputs)
    spent: dict[str, list[float]] = {found.node: [] for found in network.steps}
    for _ in range(runs):
        for index, found in enumerate(network.steps):
            before = time.perf_counter()
            step(index, index + 1)
            spent[found.node].append((time.perf_counter() - before) * 1e3)
    return spent
