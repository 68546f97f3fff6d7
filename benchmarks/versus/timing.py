"""Programs in turn, by the clock on the wall and by the processor's.

A turn goes through all programs. Each runs once without being counted, so that the caches, and the
threads of the one before that still spin, do not count against it, and then some counted times.
Between two programs a gauge tells whether others use the machine (``versus.quiet``); what ran while
they did does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gmpq.backends.base import Timing, timing
from versus.quiet import Reading, always_quiet, undisturbed

PATIENCE = 4  # times the planned seconds, for turns that are not disturbed


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run: until ``seconds`` are over and ``least`` turns of each program count."""

    seconds: float = 10.0
    least: int = 5
    most: int = 800
    runs: int = 3  # counted runs of a program in a turn


@dataclass(frozen=True, slots=True)
class Visit:
    """One program's part of a turn: milliseconds of its runs, and the gauge around them."""

    wall_ms: tuple[float, ...]
    processor_ms: float  # of all runs
    gauge_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of one program; processor time is that of all threads of the process.

    Less processor time than wall time on one thread means that others used the machine.
    """

    timing: Timing
    processor_ms: float  # of one run, median of the turns
    cores: float  # processor time over wall time, median of the turns
    quiet: float  # share of the turns that count, 0..1


def round_robin(
    runs: Mapping[str, Callable[[], object]], plan: Plan, gauge: Reading = always_quiet
) -> dict[str, Measured]:
    """Return how long each run takes, by name."""
    visits: dict[str, list[Visit]] = {name: [] for name in runs}
    start = time.perf_counter()
    _turn(runs, plan, gauge)  # warms up
    for turn in range(plan.most):
        over = time.perf_counter() - start > plan.seconds
        patient = time.perf_counter() - start <= PATIENCE * plan.seconds
        if turn >= plan.least and over and not (patient and _too_few(visits, plan.least)):
            break
        for name, visit in _turn(runs, plan, gauge).items():
            visits[name].append(visit)
    best = _best(visits)
    return {name: _measured(found, best, plan.least) for name, found in visits.items()}


def _turn(runs: Mapping[str, Callable[[], object]], plan: Plan, gauge: Reading) -> dict[str, Visit]:
    found = {}
    before = gauge()
    for name, run in runs.items():
        spent, busy = _visit(run, plan.runs)
        after = gauge()
        found[name] = Visit(spent, busy, max(before, after))
        before = after
    return found


def _visit(run: Callable[[], object], count: int) -> tuple[tuple[float, ...], float]:
    """Return the wall milliseconds of each run, and the processor's of all."""
    run()
    spent = []
    busy = time.process_time()
    for _ in range(count):
        before = time.perf_counter()
        run()
        spent.append((time.perf_counter() - before) * 1e3)
    return tuple(spent), (time.process_time() - busy) * 1e3


def _too_few(visits: Mapping[str, Sequence[Visit]], least: int) -> bool:
    best = _best(visits)
    return any(len(_counted(found, best, 0)) < least for found in visits.values())


def _best(visits: Mapping[str, Sequence[Visit]]) -> float:
    return min(visit.gauge_ms for found in visits.values() for visit in found)


def _counted(visits: Sequence[Visit], best: float, least: int) -> list[Visit]:
    return [visits[i] for i in undisturbed([visit.gauge_ms for visit in visits], best, least)]


def _measured(visits: Sequence[Visit], best: float, least: int) -> Measured:
    counted = _counted(visits, best, least)
    return Measured(
        timing([ms for visit in counted for ms in visit.wall_ms]),
        _median([visit.processor_ms / len(visit.wall_ms) for visit in counted]),
        _median([visit.processor_ms / sum(visit.wall_ms) for visit in counted]),
        len(counted) / len(visits),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
