"""Programs in turn, by the clock on the wall and by the processor's.

A turn goes through all programs. Each runs once without being counted, so that the caches, and the
threads of the one before that still spin, do not count against it, and then some counted times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gmpq.backends.base import Timing, timing


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run: turns end after ``seconds``, but not before ``least`` of them."""

    seconds: float = 10.0
    least: int = 5
    most: int = 200
    runs: int = 3  # counted runs of a program in a turn


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of one program; processor time is that of all threads of the process.

    Less processor time than wall time on one thread means that others used the machine.
    """

    timing: Timing
    processor_ms: float  # of one run, median of the turns
    cores: float  # processor time over wall time, median of the turns


def round_robin(runs: Mapping[str, Callable[[], object]], plan: Plan) -> dict[str, Measured]:
    """Return how long each run takes, by name."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    cores: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for turn in range(-1, plan.most):  # the first turn warms up
        if turn >= plan.least and time.perf_counter() - start > plan.seconds:
            break
        for name, run in runs.items():
            spent, busy = _turn(run, plan.runs)
            if turn >= 0:
                wall[name] += spent
                processor[name].append(busy / plan.runs)
                cores[name].append(busy / sum(spent))
    medians = {name: (_median(processor[name]), _median(cores[name])) for name in runs}
    return {name: Measured(timing(wall[name]), *medians[name]) for name in runs}


def _turn(run: Callable[[], object], count: int) -> tuple[list[float], float]:
    """Return the wall milliseconds of each run, and the processor's of all."""
    run()
    spent = []
    busy = time.process_time()
    for _ in range(count):
        before = time.perf_counter()
        run()
        spent.append((time.perf_counter() - before) * 1e3)
    return spent, (time.process_time() - busy) * 1e3


def _median(values: list[float]) -> float:
    return float(np.median(values))
