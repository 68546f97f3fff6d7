"""How near the layers of a program of gmpq come to what the machine can multiply.

The share of some layers is the time that their MACs would take at the peak of their
instructions (``machine.peaks``) over the time that they took. Products are those of the algorithm:
a Winograd kernel has fewer than its layer has MACs, and is held to fewer. Where LLVM chooses the
instructions, there is no peak, and the time counts with nothing against it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from gmpq.backends.base import Tensor
from gmpq.ir import Conv2d, IntGraph
from machine.peaks import Peaks
from machine.quiet import LoadProbe, near, undisturbed
from versus.entry import Compiled
from versus.rows import Row, or_dash

RUNS, WARM_UP, LEAST = 100, 3, 15
LATEST = 3  # times the runs, until ``LEAST`` of every step are undisturbed
STRETCH_MS = 4.0  # of steps between two readings of a probe

Elapsed: TypeAlias = tuple[float, float]  # milliseconds, and the probe's reading


@dataclass(frozen=True, slots=True)
class StepTime:
    """Milliseconds of one step, and those that its MACs would take at the peak.

    ``again_ms`` is a second run right after the first, whose operands caches then hold as far as
    they fit: the difference is what reading them from farther away costs.
    """

    node: str
    ms: float
    again_ms: float
    multiplies: bool
    peak_ms: float  # 0 without MACs, and without a known peak

    @property
    def share(self) -> float | None:
        """Of the peak; None where there is none."""
        return self.peak_ms / self.ms if self.peak_ms else None


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the peak and of the time, 0..1, and the memory of a program."""

    share_3x3: float | None  # of 3x3 convolutions of one group; None where there are none
    share_all: float | None  # of all layers that multiply
    share_time: float  # that layers that multiply take of all
    steps_ms: float  # all steps, timed alone; more than the network where others used the machine
    workspace_bytes: int
    live_bytes: int  # the largest set of values that live at one step
    stack_bytes: int  # of every thread
    moved_bytes: int  # values and constants that steps read and write


def share(
    compiled: Compiled, image: Tensor, peaks: Peaks, threads: int, probe: LoadProbe
) -> Shares:
    """Return the shares of a program that runs on ``threads`` threads."""
    times = step_times(compiled, image, peaks, threads, probe)
    square, program = squares(compiled.graph), compiled.built.program
    steps_ms = sum(step.ms for step in times)
    return Shares(
        of_peak(step for step in times if step.node in square),
        of_peak(step for step in times if step.multiplies),
        sum(step.ms for step in times if step.multiplies) / steps_ms,
        steps_ms,
        program.workspace_bytes,
        program.live_bytes,
        program.stack_bytes,
        program.moved_bytes,
    )


def of_peak(steps: Iterable[StepTime], *, again: bool = False) -> float | None:
    """Return the share of several steps together, of their second runs too; None without steps."""
    found = list(steps)
    spent = sum(s.again_ms if again else s.ms for s in found)
    return sum(s.peak_ms for s in found) / spent if found else None


def squares(graph: IntGraph) -> frozenset[str]:
    """Return the names of the 3x3 convolutions of one group."""
    return frozenset(
        node.name
        for node in graph.nodes
        if isinstance(node, Conv2d) and node.window.kernel == (3, 3) and node.groups == 1
    )


def step_times(
    compiled: Compiled,
    image: Tensor,
    peaks: Peaks,
    threads: int,
    probe: LoadProbe,
    runs: int = RUNS,
) -> list[StepTime]:
    """Return the times of all steps in order, each run after the one before it."""
    steps = compiled.built.plan.steps
    spent = medians_ms(compiled.network.stepper(image), len(steps), runs, probe)
    return [
        StepTime(
            step.node,
            *times,
            step.work is not None,
            0.0 if step.work is None else peaks.seconds(step.work, threads) * 1e3,
        )
        for step, times in zip(steps, spent, strict=True)
    ]


def medians_ms(
    step: Callable[[int, int], None], count: int, runs: int, probe: LoadProbe
) -> list[tuple[float, float]]:
    """Return medians of each step and of it again, without what a call that runs no step takes.

    A probe is read every few milliseconds. Of each step the runs count between two readings near
    its best, which it may have read before: a machine that is disturbed all the while would show
    nothing else.
    """
    calls = [partial(_elapsed_ms, step, i, min(i + 1, count)) for i in range(count + 1)]
    calls += [partial(_again_ms, step, i) for i in range(count)]
    for _ in range(WARM_UP):
        _turn(calls, probe)
    turns: list[list[Elapsed]] = []
    least = min(LEAST, runs)
    while len(turns) < runs or (len(turns) < LATEST * runs and _fewest(turns, probe) < least):
        turns.append(_turn(calls, probe))
    medians = [_median(runs_of_one, probe.best, least) for runs_of_one in zip(*turns, strict=True)]
    nothing = medians.pop(count)
    shortest = nothing / 100  # a layer of a few codes may take no longer than calling it
    each = [max(ms - nothing, shortest) for ms in medians]
    return list(zip(each[:count], each[count:], strict=True))


def _turn(calls: Sequence[Callable[[], float]], probe: LoadProbe) -> list[Elapsed]:
    """Return what each call took, and the slower reading of the probe around it."""
    spent: list[float] = []
    readings: list[float] = []
    before, since = probe(), 0.0
    for call in calls:
        spent.append(call())
        since += spent[-1]
        if since > STRETCH_MS or len(spent) == len(calls):
            after = probe()
            readings += [max(before, after)] * (len(spent) - len(readings))
            before, since = after, 0.0
    return list(zip(spent, readings, strict=True))


def _fewest(turns: Sequence[Sequence[Elapsed]], probe: LoadProbe) -> int:
    """Return the undisturbed runs of the call that has the fewest."""
    return min(
        sum(near(reading, probe.best) for _, reading in found) for found in zip(*turns, strict=True)
    )


def _median(found: Sequence[Elapsed], best: float, least: int) -> float:
    """Return the median of the undisturbed runs of one call."""
    spent, readings = zip(*found, strict=True)
    median: float = statistics.median(spent[i] for i in undisturbed(readings, best, least))
    return median


def _again_ms(step: Callable[[int, int], None], number: int) -> float:
    step(number, number + 1)
    return _elapsed_ms(step, number, number + 1)


def _elapsed_ms(step: Callable[[int, int], None], first: int, last: int) -> float:
    start = time.perf_counter()
    step(first, last)
    return (time.perf_counter() - start) * 1e3


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells of the table of shares, a line per program of gmpq."""
    shares = ("3x3 layers of the peak", "all layers", "their share of the time", "ms of all steps")
    memory = ("workspace", "live at once", "ratio", "stack per thread", "moved")
    lines = []
    for row in (row for row in rows if row.share_time is not None):
        case = (row.network, str(row.threads), row.bits)
        lines.append((*case, *_percents(row), f"{row.steps_ms:.3f}", *_memory(row)))
    return ("network", "threads", "bits", *shares, *memory), lines


def _percents(row: Row) -> tuple[str, ...]:
    found = (row.share_3x3, row.share_all, row.share_time)
    return tuple(or_dash(value, lambda share: f"{share:.0%}") for value in found)


def _memory(row: Row) -> tuple[str, ...]:
    workspace, live = row.workspace_bytes or 0, row.live_bytes or 0
    sizes = (workspace, live, row.stack_bytes or 0, row.moved_bytes or 0)
    first, second, *others = (f"{size / 1e6:.2f} MB" for size in sizes)
    return (first, second, f"{workspace / live:.2f}" if live else "-", *others)
