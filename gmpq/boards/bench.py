"""The program of an output directory on a pool of boards: are its values right, how fast is it?

Every value that a step leaves in the program's memory is fetched and compared with the reference;
values that stay inside of a kernel are compared by what is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmpq.artifact import conditions, latency, parity, samples
from gmpq.artifact.contents import Contents, check_program, read_contents
from gmpq.artifact.files import GRAPH, SAMPLES
from gmpq.artifact.latency import NETWORK, Row
from gmpq.artifact.output_parity import Returned, compare_outputs
from gmpq.artifact.parity import Parity, Trace
from gmpq.artifact.samples import Inputs
from gmpq.backends import reference
from gmpq.backends.base import Tensor, timing
from gmpq.backends.host import integer_features
from gmpq.backends.rpc import pool
from gmpq.backends.rpc.pool import DevicePool
from gmpq.backends.rpc.session import NOT_A_LATENCY, Session
from gmpq.backends.rpc.tasks import RunConfig, RunTask, run_task_of
from gmpq.backends.tvm import target as targets
from gmpq.errors import BoardError
from gmpq.files import saved_graph, temporary
from gmpq.files.manifest import versions
from gmpq.ir import IntGraph
from gmpq.program import Program

UNSTEADY = ("ondemand", "conservative", "powersave", "schedutil")  # governors that change the clock


@dataclass(frozen=True, slots=True, eq=False)
class BoardResults:
    """The sessions on boards: times by board, the comparison, and what went wrong."""

    sessions: tuple[Session, ...]
    rows: tuple[Row, ...]
    moment: str  # when and with what they were measured
    parity: Parity
    missing: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether all boards compute what the reference does."""
        return self.parity.equal


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """What an output directory holds."""

    directory: Path
    contents: Contents
    graph: IntGraph
    samples: Sequence[Inputs]


def bench(
    out: Path,
    devices: DevicePool,
    config: RunConfig,
    on_progress: Callable[[str], object] = lambda _: None,
) -> BoardResults:
    """Return times and parity of the program in ``out`` on the boards of ``devices``.

    Raises:
        OutputError: a file is missing, damaged or was changed.
        BoardError: no board ran it at all.
    """
    found, graph = read_contents(out), saved_graph.load(out / GRAPH)
    check_program(out, found.program, graph)
    program = _Program(out, found, graph, samples.read(out / SAMPLES, graph))
    with temporary.folder() as folder:
        task = _task(program, folder, config)
        report = pool.run(devices, [task] * devices.boards, folder, on_progress)
        sessions = tuple(session for _, session in report.sessions)
        if not any(session.samples for session in sessions):
            raise BoardError(_why(sessions, report.missing))
        on_progress("comparing with the reference")
        compared = _compare(program, sessions)
    rows = tuple(row for session in sessions for row in _rows(session, found, config.threads))
    moment = conditions.moment(conditions.today(), config.threads, versions())
    return BoardResults(sessions, rows, moment, compared, tuple(report.missing))


def to_text(results: BoardResults, *, layers: bool) -> str:
    """Return the results as text: boards, comparison, times."""
    lines = [board_line(session) for session in results.sessions]
    lines += [f"not measured: {reason}" for reason in results.missing]
    lines += ["", parity.to_table(results.parity)]
    if results.rows:
        lines += ["", results.moment, latency.to_table(results.rows)]
    if results.rows and layers:
        lines += ["", latency.to_layer_table(results.rows)]
    if any(session.emulated for session in results.sessions):
        lines += ["", f"times are {NOT_A_LATENCY}"]
    return "\n".join(lines)


def board_line(session: Session) -> str:
    """Return as text what a board is, its state, and how the session ended."""
    info = session.after
    facts = [
        info.get("model"),
        _processor(info),
        info.get("kernel"),
        f"governor {info['governor']}" if info.get("governor") else None,
        _change(session, "frequency_mhz", "MHz"),
        _change(session, "temperature_c", "°C"),
        f"throttled {info['throttled']}"
        if info.get("throttled") not in (None, "0x0", "0")
        else None,
        NOT_A_LATENCY if session.emulated else None,
        "its clock changes with the load: set the governor performance"
        if info.get("governor") in UNSTEADY
        else None,
    ]
    line = f"{session.board}: {', '.join(fact for fact in facts if fact) or 'no information'}"
    if session.failed:
        return f"{line}; failed: {session.failed}"
    return (
        f"{line}; disconnected: {session.disconnected}; kept {_kept(session)}"
        if session.disconnected
        else line
    )


def _processor(info: Mapping[str, Any]) -> str | None:
    if not info.get("processor"):
        return None
    found = integer_features((info.get("features") or "").split())
    return f"{info['processor']} x {info['cores']}" + (f" ({' '.join(found)})" if found else "")


def _change(session: Session, name: str, unit: str) -> str | None:
    before, after = session.before.get(name), session.after.get(name)
    if after is None:
        return None
    return f"{after:g} {unit}" if before == after else f"{before:g} to {after:g} {unit}"


def _kept(session: Session) -> str:
    return f"{len(session.runs_ms)} runs, {len(session.steps_ms)} of every layer"


def _task(program: _Program, folder: Path, config: RunConfig) -> RunTask:
    paths = []
    for index, sample in enumerate(program.samples):
        path = folder / f"sample{index}"
        arrays = [sample[spec.name] for spec in program.contents.program.inputs]
        path.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
        paths.append(str(path))
    machine = targets.find(program.contents.target).machine
    return run_task_of(program.directory, program.contents.program, machine, tuple(paths), config)


def _compare(program: _Program, sessions: Sequence[Session]) -> Parity:
    """Return how the values and outputs of all runs compare with the reference."""
    runs, outputs = [], []
    for index, sample in enumerate(program.samples):
        expected = reference.run(program.graph, sample)
        for session in (each for each in sessions if each.samples > index):
            values = dict(values_of(program.contents.program, session.values / str(index)))
            codes = {name: x for name, x in values.items() if program.graph.values[name].q}
            trace = Trace("tvm", _level(session), codes)
            runs.append(parity.compare(program.graph, expected, trace))
            named = [(spec.name, values[spec.name]) for spec in program.contents.program.outputs]
            returned = Returned("tvm", _level(session), named)
            outputs.append(compare_outputs(program.graph, expected, returned))
    return parity.gather(program.graph, runs, outputs, {})


def values_of(program: Program, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every value in the file that a worker wrote: codes by step, then the outputs.

    Codes are uint8, outputs float32, in the shapes of ``program``.
    """
    content, start = np.fromfile(path, np.uint8), 0
    for value in (value for step in program.steps for value in step.stored):
        size = math.prod(value.shape)
        yield value.name, content[start : start + size].reshape(value.shape)
        start += size
    for spec in program.outputs:
        size = 4 * spec.elements
        yield spec.name, content[start : start + size].view(np.float32).reshape(spec.shape)
        start += size


def _level(session: Session) -> str:
    return f"{session.board}, emulated" if session.emulated else str(session.board)


def _rows(session: Session, found: Contents, threads: int) -> Iterator[Row]:
    bops = found.bops
    name = f"tvm on {_level(session)}"
    if session.runs_ms:
        yield Row(name, threads, NETWORK, timing(session.runs_ms), sum(bops.values()))
    if session.steps_ms:
        for step, spent in zip(found.program.steps, np.transpose(session.steps_ms), strict=True):
            yield Row(name, threads, step.node, timing(list(spent)), bops.get(step.node))


def _why(sessions: Sequence[Session], missing: Sequence[str]) -> str:
    """Return in one line why no board ran the program."""
    if sessions:
        return "; ".join(
            f"board {session.board}: {session.failed or session.disconnected}"
            for session in sessions
        )
    return "; ".join(missing)
