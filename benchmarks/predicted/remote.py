"""Whole networks on boards of a fleet, real or emulated: all values that come back are compared."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

from gmpq.backends import reference
from gmpq.backends.rpc import pool
from gmpq.backends.rpc.pool import Fleet
from gmpq.backends.rpc.tasks import Effort, job_of
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target.cpu import find
from gmpq.boards import bench
from versus.policies import choose
from versus.subject import Subject

HEADER = ("network", "bits", "target", "board", "values", "exact")
COMPARE_ONLY = Effort(repeat=0)


def row(subject: Subject, bits: str, target: str, fleet: Fleet) -> tuple[str, ...]:
    """Return the cells of ``HEADER``.

    Raises:
        click.UsageError: no board ran it.
    """
    graph = subject.quantized(choose(bits, subject.name, subject.macs, 0))
    expected = reference.run(graph, {graph.inputs[0]: subject.image})
    machine = find(target).triple.split("-", maxsplit=1)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build(graph, find(target), folder).program
        (folder / "sample").write_bytes(subject.image.tobytes())
        job = job_of(folder, program, machine, (str(folder / "sample"),), COMPARE_ONLY)
        report = pool.run(fleet, [job], folder)
        done = [visit for _, visit in report.visits if visit.samples]
        if not done:
            failed = [visit.failed or visit.lost for _, visit in report.visits]
            raise click.UsageError("; ".join([*failed, *report.missing]))
        visit = done[-1]
        found = dict(bench.values_of(program, visit.values / "0"))
    exact = all(np.array_equal(value, expected[key]) for key, value in found.items())
    board = visit.before.get("processor") or str(visit.board)
    count = sum(value.size for value in found.values())
    emulated = ", emulated" if visit.emulated else ""
    return (subject.name, bits, target, f"{board}{emulated}", str(count), "yes" if exact else "NO")
