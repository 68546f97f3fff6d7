"""Latency tables from boards: every layer of a network at all bits that it may have.

The network is compiled once per pair of bits, all searched layers alike, and a pool of boards
shares the programs. A layer's time is the median of its step; requantized copies and residual
additions that its kernel does are part of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmpq.artifact import conditions
from gmpq.backends.rpc import pool
from gmpq.backends.rpc.pool import DevicePool
from gmpq.backends.rpc.session import NOT_A_LATENCY, Session
from gmpq.backends.rpc.tasks import RunConfig, RunTask, run_task_of
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.plan.plan import PlanOptions
from gmpq.backends.tvm.target import Target, find, rename_warnings
from gmpq.boards.bench import board_line
from gmpq.calib.statistics import Statistics
from gmpq.calib.sweep import sweep
from gmpq.errors import BoardError
from gmpq.files import atomic, temporary
from gmpq.files.manifest import versions
from gmpq.ir import FloatGraph
from gmpq.lower import lower
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from gmpq.progress import Progress
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.latency_table import VERSION
from gmpq.search.ilp.space import Space, candidate_space
from gmpq.search.network_source import NetworkSource

BATCH = 8  # images per step of calibration


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured, as the content of a table, and what is missing in it, as text."""

    table: dict[str, Any]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """A calibrated network whose layers may have other bits."""

    graph: FloatGraph
    statistics: dict[str, Statistics]
    space: Space

    def bits(self, pair: LayerBits) -> dict[str, LayerBits]:
        """Return the bits of every layer if all searched ones have ``pair``."""
        return {layer.name: layer.kept or pair for layer in self.space.layers}


def profile(
    source: NetworkSource,
    among: Candidates,
    target: str,
    devices: DevicePool,
    config: RunConfig,
    progress: Progress,
) -> Profile:
    """Return the times of the layers of ``source`` on boards, for all pairs of bits.

    Raises:
        GmpqError: the network, the images or the target cannot be used, or no board measured.
    """
    processor = find(target)
    for warning in rename_warnings(target):
        progress.warn(warning)
    network = _open(source, among, progress)
    pairs = [LayerBits(w, a) for w in among.weight_bits for a in among.input_bits]
    with temporary.folder() as folder:
        tasks = []
        for pair in pairs:
            progress.stage(f"compiling w{pair.w}a{pair.a}")
            tasks.append(_task(network, pair, processor, folder, config))
        report = pool.run(devices, [task for task, _ in tasks], folder, progress.stage)
    steps = [names for _, names in tasks]
    found = {pairs[i]: (steps[i], session) for i, session in report.sessions if session.steps_ms}
    missing = tuple(_missing(pairs, found, report.sessions, report.missing))
    if not found:
        raise BoardError("; ".join(missing))
    emulated = any(session.emulated for _, session in found.values())
    name = f"{target} ({NOT_A_LATENCY})" if emulated else target
    table = {
        "version": VERSION,
        "target": name,
        "measured_on": _measured_on([session for _, session in found.values()], config.threads),
        "layers": _layers(network, found),
    }
    return Profile(table, missing)


def write(table: dict[str, Any], path: Path) -> None:
    """Write a table to ``path``, all or nothing.

    Raises:
        OutputError: it cannot be written.
    """
    atomic.write_text(path, json.dumps(table, indent=1, allow_nan=False) + "\n")


def _open(source: NetworkSource, among: Candidates, progress: Progress) -> _Network:
    opened = source.open()
    images = source.images(opened)
    progress.stage(f"reading {opened.name}")
    graph = lower(opened.module, opened.shape, opened.name)
    space = candidate_space(graph, among)
    with progress.bar("calibrating", len(images.items)) as advance:
        statistics = sweep(graph, images.batches(BATCH), advance)
    return _Network(graph, dict(statistics), space)


def _task(
    network: _Network, pair: LayerBits, target: Target, folder: Path, config: RunConfig
) -> tuple[RunTask, list[str]]:
    """Return the task of the network at ``pair``, and the layer of each of its steps."""
    bits = network.bits(pair)
    named = {each.name: bits[each.name] for each in network.space.layers if not each.auxiliary}
    graph = quantize_network(network.graph, named, network.statistics, QuantizeOptions())
    own = Path(tempfile.mkdtemp(dir=folder))
    options = PlanOptions(in_turn=False)  # each layer has a time
    program = build(graph, target, own, options=options).program
    sample = own / "sample"
    size = sum(spec.elements for spec in program.inputs)
    sample.write_bytes(np.zeros(size, np.float32).tobytes())  # times do not depend on values
    machine = target.machine
    task = run_task_of(own, program, machine, (str(sample),), config)
    return task, [step.node for step in program.steps]


def _measured_on(sessions: Sequence[Session], threads: int) -> list[str]:
    """Return when and with what it was measured, and a line for each board."""
    moment = conditions.moment(conditions.today(), threads, versions())
    boards = {str(session.board): board_line(session) for session in sessions}
    return [moment, *boards.values()]


def _layers(
    network: _Network, found: dict[LayerBits, tuple[list[str], Session]]
) -> dict[str, dict[str, float]]:
    """Return the median milliseconds by layer and pair; every session has layers of fixed bits."""
    times: dict[str, dict[str, list[float]]] = {layer.name: {} for layer in network.space.layers}
    for pair, (steps, session) in found.items():
        medians = dict(zip(steps, np.median(session.steps_ms, axis=0).tolist(), strict=True))
        for name, bits in network.bits(pair).items():
            times[name].setdefault(f"w{bits.w}a{bits.a}", []).append(medians[name])
    return {
        name: {key: round(float(np.median(spent)), 6) for key, spent in by_pair.items()}
        for name, by_pair in times.items()
    }


def _missing(
    pairs: Sequence[LayerBits],
    found: dict[LayerBits, tuple[list[str], Session]],
    sessions: Sequence[tuple[int, Session]],
    reasons: Sequence[str],
) -> Iterator[str]:
    for index, pair in enumerate(pairs):
        if pair not in found:
            own = [f"{v.board}: {v.failed or v.disconnected}" for i, v in sessions if i == index]
            why = "; ".join(own or dict.fromkeys(reasons)) or "no board came to it"
            yield f"w{pair.w}a{pair.a} was not measured: {why}"
