"""The program of an output directory on boards of a fleet: are its values right, how fast is it?

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
from gmpq.backends.host import products
from gmpq.backends.rpc import pool
from gmpq.backends.rpc.pool import Fleet
from gmpq.backends.rpc.session import NOT_A_LATENCY, Visit
from gmpq.backends.rpc.tasks import Effort, Job, job_of
from gmpq.backends.tvm.target import cpu
from gmpq.errors import BoardError
from gmpq.files import saved_graph, temporary
from gmpq.files.manifest import versions
from gmpq.ir import IntGraph
from gmpq.program import Program

UNSTEADY = ("ondemand", "conservative", "powersave", "schedutil")  # governors that change the clock


@dataclass(frozen=True, slots=True, eq=False)
class BoardResults:
    """What the boards found: times by board, the comparison, and what went wrong."""

    visits: tuple[Visit, ...]
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
    out: Path, fleet: Fleet, effort: Effort, told: Callable[[str], object] = lambda _: None
) -> BoardResults:
    """Return what the boards of ``fleet`` find about the program in ``out``.

    Raises:
        OutputError: a file is missing, damaged or was changed.
        BoardError: no board ran it at all.
    """
    found, graph = read_contents(out), saved_graph.load(out / GRAPH)
    check_program(out, found.program, graph)
    program = _Program(out, found, graph, samples.read(out / SAMPLES, graph))
    with temporary.folder() as folder:
        job = _job(program, folder, effort)
        report = pool.run(fleet, [job] * fleet.boards, folder, told)
        visits = tuple(visit for _, visit in report.visits)
        if not any(visit.samples for visit in visits):
            raise BoardError(_why(visits, report.missing))
        told("comparing with the reference")
        compared = _compare(program, visits)
    rows = tuple(row for visit in visits for row in _rows(visit, found, effort.threads))
    moment = conditions.moment(conditions.today(), effort.threads, versions())
    return BoardResults(visits, rows, moment, compared, tuple(report.missing))


def to_text(results: BoardResults, *, layers: bool) -> str:
    """Return all that is known, as text: boards, comparison, times."""
    lines = [board_line(visit) for visit in results.visits]
    lines += [f"not measured: {reason}" for reason in results.missing]
    lines += ["", parity.to_table(results.parity)]
    if results.rows:
        lines += ["", results.moment, latency.to_table(results.rows)]
    if results.rows and layers:
        lines += ["", latency.to_layer_table(results.rows)]
    if any(visit.emulated for visit in results.visits):
        lines += ["", f"times are {NOT_A_LATENCY}"]
    return "\n".join(lines)


def board_line(visit: Visit) -> str:
    """Return what a board is, in which state it was, and how the visit went."""
    told = visit.after
    facts = [
        told.get("model"),
        _processor(told),
        told.get("kernel"),
        f"governor {told['governor']}" if told.get("governor") else None,
        _change(visit, "frequency_mhz", "MHz"),
        _change(visit, "temperature_c", "°C"),
        f"throttled {told['throttled']}"
        if told.get("throttled") not in (None, "0x0", "0")
        else None,
        NOT_A_LATENCY if visit.emulated else None,
        "its clock changes with the load: set the governor performance"
        if told.get("governor") in UNSTEADY
        else None,
    ]
    line = f"{visit.board}: {', '.join(fact for fact in facts if fact) or 'nothing is known of it'}"
    if visit.failed:
        return f"{line}; failed: {visit.failed}"
    return f"{line}; lost: {visit.lost}; kept {_kept(visit)}" if visit.lost else line


def _processor(told: Mapping[str, Any]) -> str | None:
    if not told.get("processor"):
        return None
    found = products((told.get("features") or "").split())
    return f"{told['processor']} x {told['cores']}" + (f" ({' '.join(found)})" if found else "")


def _change(visit: Visit, name: str, unit: str) -> str | None:
    before, after = visit.before.get(name), visit.after.get(name)
    if after is None:
        return None
    return f"{after:g} {unit}" if before == after else f"{before:g} to {after:g} {unit}"


def _kept(visit: Visit) -> str:
    return f"{len(visit.runs_ms)} runs, {len(visit.steps_ms)} of every layer"


def _job(program: _Program, folder: Path, effort: Effort) -> Job:
    paths = []
    for index, sample in enumerate(program.samples):
        path = folder / f"sample{index}"
        arrays = [sample[spec.name] for spec in program.contents.program.inputs]
        path.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
        paths.append(str(path))
    machine = cpu.find(program.contents.target).triple.split("-", maxsplit=1)[0]
    return job_of(program.directory, program.contents.program, machine, tuple(paths), effort)


def _compare(program: _Program, visits: Sequence[Visit]) -> Parity:
    """Return how the values and outputs of all runs compare with the reference."""
    runs, outputs = [], []
    for index, sample in enumerate(program.samples):
        expected = reference.run(program.graph, sample)
        for visit in (each for each in visits if each.samples > index):
            values = dict(values_of(program.contents.program, visit.values / str(index)))
            codes = {name: x for name, x in values.items() if program.graph.values[name].q}
            trace = Trace("tvm", _level(visit), codes)
            runs.append(parity.compare(program.graph, expected, trace))
            named = [(spec.name, values[spec.name]) for spec in program.contents.program.outputs]
            returned = Returned("tvm", _level(visit), named)
            outputs.append(compare_outputs(program.graph, expected, returned))
    return parity.gather(program.graph, runs, outputs, {})


def values_of(program: Program, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every value in the file that a worker wrote: codes by step, then the outputs."""
    content, start = np.fromfile(path, np.uint8), 0
    for value in (value for step in program.steps for value in step.stored):
        size = math.prod(value.shape)
        yield value.name, content[start : start + size].reshape(value.shape)
        start += size
    for spec in program.outputs:
        size = 4 * spec.elements
        yield spec.name, content[start : start + size].view(np.float32).reshape(spec.shape)
        start += size


def _level(visit: Visit) -> str:
    return f"{visit.board}, emulated" if visit.emulated else str(visit.board)


def _rows(visit: Visit, found: Contents, threads: int) -> Iterator[Row]:
    bops = found.bops
    name = f"tvm on {_level(visit)}"
    if visit.runs_ms:
        yield Row(name, threads, NETWORK, timing(visit.runs_ms), sum(bops.values()))
    if visit.steps_ms:
        for step, spent in zip(found.program.steps, np.transpose(visit.steps_ms), strict=True):
            yield Row(name, threads, step.node, timing(list(spent)), bops.get(step.node))


def _why(visits: Sequence[Visit], missing: Sequence[str]) -> str:
    """Return in one line why no board ran the program."""
    if visits:
        return "; ".join(f"board {visit.board}: {visit.failed or visit.lost}" for visit in visits)
    return "; ".join(missing)
