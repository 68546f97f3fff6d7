"""Programs in turn, by the clock on the wall and by the processor's.

A turn goes through all programs. Each runs once without being counted, so that the caches, and the
threads of the one before that still spin, do not count against it, and then some counted times.
A load probe before and after every run detects noisy neighbours (``machine.quiet``). Only
undisturbed runs count. Where these are rare, all runs of all programs count, since undisturbed runs
of one program are compared only with undisturbed runs of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gmpq.backends.base import Timing, timing
from machine.quiet import LoadProbe, Reading, always_quiet, near

LATEST = 4  # times the planned seconds, for runs that are not disturbed


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run: for some seconds and turns, and until enough runs are undisturbed."""

    seconds: float = 10.0
    least: int = 5  # turns
    undisturbed: int = 9  # runs of each program; with fewer, all runs of all programs count
    share: float = 0.2  # of its runs that must be undisturbed
    most: int = 800
    runs: int = 3  # counted runs of a program in a turn


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program, and the slower reading of the probe around it."""

    wall_ms: float
    processor_ms: float
    probe_ms: float


Runs: TypeAlias = Mapping[str, Sequence[Run]]  # by program


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of one program; processor time is that of all threads of the process.

    Less processor time than wall time on one thread means that others used the machine.
    """

    timing: Timing
    processor_ms: float  # of one run, median
    cores: float  # processor time over wall time, median
    quiet: float  # share of undisturbed runs, 0..1
    all_ms: float  # median of all runs, disturbed or not


def round_robin(
    programs: Mapping[str, Callable[[], object]], plan: Plan, read: Reading = always_quiet
) -> dict[str, Measured]:
    """Return how long each of the programs takes, by name."""
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    probe = LoadProbe(read)
    start = time.perf_counter()
    _turn(programs, plan, probe)  # warms up
    for turn in range(plan.most):
        elapsed = time.perf_counter() - start
        over, late = elapsed > plan.seconds, elapsed > LATEST * plan.seconds
        if turn >= plan.least and over and (late or _enough(_quiet(runs, probe), runs, plan)):
            break
        for name, found in _turn(programs, plan, probe).items():
            runs[name] += found
    quiet = _quiet(runs, probe)
    counted = quiet if _enough(quiet, runs, plan) else runs
    return {
        name: _measured(counted[name], runs[name], len(quiet[name]) / len(runs[name]))
        for name in programs
    }


def _quiet(runs: Runs, probe: LoadProbe) -> Runs:
    """Return the runs, by program, before and after which the probe was near its best."""
    return {
        name: [run for run in found if near(run.probe_ms, probe.best)]
        for name, found in runs.items()
    }


def _enough(quiet: Runs, runs: Runs, plan: Plan) -> bool:
    """Return whether enough runs are quiet to count alone."""
    return all(
        len(quiet[name]) >= max(plan.undisturbed, plan.share * len(found))
        for name, found in runs.items()
    )


def _turn(
    programs: Mapping[str, Callable[[], object]], plan: Plan, probe: Reading
) -> dict[str, list[Run]]:
    return {name: _visit(program, plan.runs, probe) for name, program in programs.items()}


def _visit(program: Callable[[], object], count: int, probe: Reading) -> list[Run]:
    program()
    found = []
    before = probe()
    for _ in range(count):
        busy, start = time.process_time(), time.perf_counter()
        program()
        wall, busy = time.perf_counter() - start, time.process_time() - busy
        after = probe()
        found.append(Run(wall * 1e3, busy * 1e3, max(before, after)))
        before = after
    return found


def _measured(counted: Sequence[Run], runs: Sequence[Run], quiet: float) -> Measured:
    return Measured(
        timing([run.wall_ms for run in counted]),
        _median([run.processor_ms for run in counted]),
        _median([run.processor_ms / run.wall_ms for run in counted]),
        quiet,
        _median([run.wall_ms for run in runs]),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
