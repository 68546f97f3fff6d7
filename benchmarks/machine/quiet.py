"""A load probe: a bare loop that takes longer while a noisy neighbour computes.

A virtual core is one of two hardware threads (SMT); while another virtual machine runs on the other
one, a loop that keeps the vector ports busy takes up to twice as long. A noisy neighbour slows each
program by a different factor, so only undisturbed runs of two programs are compared. A measurement
between two readings of the probe is undisturbed if both readings are near its best.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeAlias

from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.kernels.base import Call
from gmpq.backends.tvm.target import CpuTarget
from gmpq.runtime import Network
from machine.peak_loops import DotLoop, chain, loops
from machine.peaks import LINKS, NOTHING, planned

Reading: TypeAlias = Callable[[], float]  # milliseconds; equal without neighbours
SLACK = 1.12  # of two readings that count as equal, since clocks change; neighbours take more
READINGS = 5  # the best of them, since the threads of a program may still spin after it


class LoadProbe:
    """Readings of all cores, and the best of them so far."""

    def __init__(self, read: Reading) -> None:
        self._read = read
        self.best = math.inf

    def __call__(self) -> float:
        """Return the next reading."""
        reading = self._read()
        self.best = min(self.best, reading)
        return reading


@contextmanager
def load_probe(target: CpuTarget, threads: int) -> Iterator[LoadProbe]:
    """Give a probe of ``threads`` cores at once: the reading of the slowest."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
        program = assemble(NOTHING, planned([_loop(target)], target), target, Path(folder)).program
        steps = [Network(Path(folder), program).stepper() for _ in range(threads)]
        yield LoadProbe(lambda: max(pool.map(_reading, steps)))


def scaling(target: CpuTarget, threads: int, turns: int) -> tuple[float, float]:
    """Return the speed-up of ``threads`` cores over one core: by best readings, and by medians.

    The loop needs no memory, so it bounds the speed-up of any program. The slowest core counts, as
    in a program whose threads wait for each other.
    """
    with load_probe(target, 1) as alone, load_probe(target, threads) as together:
        pairs = [(alone(), together()) for _ in range(turns)]
    one, all_ = zip(*pairs, strict=True)
    return threads * min(one) / min(all_), threads * median(one) / median(all_)


def always_quiet() -> float:
    """Return the reading of a probe without neighbours."""
    return 1.0


def near(reading: float, best: float) -> bool:
    """Return whether a reading is as good as the best one."""
    return reading <= SLACK * best


def undisturbed(readings: Sequence[float], best: float, least: int) -> list[int]:
    """Return the places of readings near ``best``; the smallest ``least`` if these are fewer."""
    order = sorted(range(len(readings)), key=lambda i: readings[i])
    quiet = [i for i in order if near(readings[i], best)]
    return sorted(quiet if len(quiet) >= least else order[:least])


def _loop(target: CpuTarget) -> Call:
    """Return the narrowest tile of vectors: it keeps the most ports busy."""
    dots = [loop for loop in loops(target) if isinstance(loop, DotLoop)]
    return min(dots, key=lambda loop: loop.vectors).call() if dots else chain(LINKS)


def _reading(step: Callable[[int, int], None]) -> float:
    def spent() -> float:
        start = time.perf_counter()
        step(0, 1)
        return (time.perf_counter() - start) * 1e3

    return min(spent() for _ in range(READINGS))
