"""Whole networks on a pool of boards, real or emulated: all values that come back are compared."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

from gmpq.backends import reference
from gmpq.backends.rpc import pool
from gmpq.backends.rpc.pool import DevicePool
from gmpq.backends.rpc.tasks import RunConfig, run_task_of
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import find
from gmpq.boards import bench
from versus.policies import choose
from versus.subject import Subject

HEADER = ("network", "bits", "target", "board", "values", "exact")
COMPARE_ONLY = RunConfig(repeat=0)


def row(subject: Subject, bits: str, target: str, devices: DevicePool) -> tuple[str, ...]:
    """Return the cells of ``HEADER``.

    Raises:
        click.UsageError: no board ran it.
    """
    graph = subject.quantized(choose(bits, subject.name, subject.macs, 0))
    expected = reference.run(graph, {graph.inputs[0]: subject.image})
    machine = find(target).machine
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build(graph, find(target), folder).program
        (folder / "sample").write_bytes(subject.image.tobytes())
        task = run_task_of(folder, program, machine, (str(folder / "sample"),), COMPARE_ONLY)
        report = pool.run(devices, [task], folder)
        done = [session for _, session in report.sessions if session.samples]
        if not done:
            failed = [session.failed or session.disconnected for _, session in report.sessions]
            raise click.UsageError("; ".join([*failed, *report.missing]))
        session = done[-1]
        found = dict(bench.values_of(program, session.values / "0"))
    exact = all(np.array_equal(value, expected[key]) for key, value in found.items())
    board = session.before.get("processor") or str(session.board)
    count = sum(value.size for value in found.values())
    emulated = ", emulated" if session.emulated else ""
    return (subject.name, bits, target, f"{board}{emulated}", str(count), "yes" if exact else "NO")
