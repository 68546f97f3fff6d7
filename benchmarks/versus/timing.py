"""Programs in turn, by the clock on the wall and by the processor's.

A turn goes through all programs. Each runs once without being counted, so that the caches, and the
threads of the one before that still spin, do not count against it, and then some counted times.
Around every run a gauge tells whether others use the machine (``versus.quiet``); what ran while
they did does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gmpq.backends.base import Timing, timing
from versus.quiet import Reading, always_quiet, undisturbed

PATIENCE = 4  # times the planned seconds, for runs that are not disturbed


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run: until ``seconds`` are over and the runs of ``least`` turns count."""

    seconds: float = 10.0
    least: int = 5
    most: int = 800
    runs: int = 3  # counted runs of a program in a turn


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program, and the slower reading of the gauge around it."""

    wall_ms: float
    processor_ms: float
    gauge_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of one program; processor time is that of all threads of the process.

    Less processor time than wall time on one thread means that others used the machine.
    """

    timing: Timing
    processor_ms: float  # of one run, median
    cores: float  # processor time over wall time, median
    quiet: float  # share of the runs that count, 0..1
    all_ms: float  # median of all runs, disturbed or not


def round_robin(
    programs: Mapping[str, Callable[[], object]], plan: Plan, gauge: Reading = always_quiet
) -> dict[str, Measured]:
    """Return how long each of the programs takes, by name."""
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    least = plan.least * plan.runs
    start = time.perf_counter()
    _turn(programs, plan, gauge)  # warms up
    for turn in range(plan.most):
        over = time.perf_counter() - start > plan.seconds
        patient = time.perf_counter() - start <= PATIENCE * plan.seconds
        if turn >= plan.least and over and not (patient and _too_few(runs, least)):
            break
        for name, found in _turn(programs, plan, gauge).items():
            runs[name] += found
    best = _best(runs)
    return {name: _measured(found, best, least) for name, found in runs.items()}


def _turn(
    programs: Mapping[str, Callable[[], object]], plan: Plan, gauge: Reading
) -> dict[str, list[Run]]:
    return {name: _visit(program, plan.runs, gauge) for name, program in programs.items()}


def _visit(program: Callable[[], object], count: int, gauge: Reading) -> list[Run]:
    program()
    found = []
    before = gauge()
    for _ in range(count):
        busy, start = time.process_time(), time.perf_counter()
        program()
        wall, busy = time.perf_counter() - start, time.process_time() - busy
        after = gauge()
        found.append(Run(wall * 1e3, busy * 1e3, max(before, after)))
        before = after
    return found


def _too_few(runs: Mapping[str, Sequence[Run]], least: int) -> bool:
    best = _best(runs)
    return any(len(_counted(found, best, 0)) < least for found in runs.values())


def _best(runs: Mapping[str, Sequence[Run]]) -> float:
    return min(run.gauge_ms for found in runs.values() for run in found)


def _counted(runs: Sequence[Run], best: float, least: int) -> list[Run]:
    return [runs[i] for i in undisturbed([run.gauge_ms for run in runs], best, least)]


def _measured(runs: Sequence[Run], best: float, least: int) -> Measured:
    counted = _counted(runs, best, least)
    return Measured(
        timing([run.wall_ms for run in counted]),
        _median([run.processor_ms for run in counted]),
        _median([run.processor_ms / run.wall_ms for run in counted]),
        len(counted) / len(runs),
        _median([run.wall_ms for run in runs]),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
