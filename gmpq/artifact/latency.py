"""How long programs take: whole networks interleaved with each other, and each layer.

Rounds go through all programs in turn, so that a machine that slows down slows all of them. The
first rounds warm up and are not counted. Times are of the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gmpq import table
from gmpq.artifact import conditions
from gmpq.artifact.conditions import Conditions
from gmpq.backends.base import Executable, Tensor, Timing, timing

NETWORK = ""  # the layer of a row that is about the whole network
BLOCKS = 3  # layers are timed in blocks of runs, a block of each program in turn


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run: rounds end after ``seconds``, but not before ``least`` of them."""

    seconds: float = 10.0
    least: int = 10
    most: int = 200
    warm_up: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A program to time on given inputs, ready to run."""

    backend: str
    program: Executable
    inputs: Mapping[str, Tensor]
    settings: str  # what else decides how fast it is

    def run_ms(self) -> float:
        """Return the milliseconds of one run."""
        return self.program.time_runs(self.inputs, 1)[0]


@dataclass(frozen=True, slots=True)
class Row:
    """The time of one layer, or of the network, in one backend."""

    backend: str
    threads: int
    layer: str
    timing: Timing
    bops: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Times, and what they were measured on; without times that is None."""

    rows: tuple[Row, ...] = ()
    on: Conditions | None = None


def measure(
    entries: Sequence[Entry], threads: int, bops: Mapping[str, int], plan: Plan
) -> Measured:
    """Return the times of all ``entries``, if any: of the network, then of each layer.

    Args:
        entries: programs that already run on ``threads`` threads.
        threads: what to write down.
        bops: BOPs by layer; their sum is the network's.
        plan: how often to run.
    """
    if not entries:
        return Measured()
    on = conditions.of(threads, {entry.backend: entry.settings for entry in entries})
    networks = interleave({entry.backend: entry.run_ms for entry in entries}, plan)
    total = sum(bops.values())
    rows = [Row(name, threads, NETWORK, timing(spent), total) for name, spent in networks.items()]
    runs = max(plan.least, min(map(len, networks.values()))) // BLOCKS + plan.warm_up
    for entry, layers in zip(entries, _layers(entries, runs, plan), strict=True):
        rows += [
            Row(entry.backend, threads, layer, timing(spent), bops.get(layer))
            for layer, spent in layers.items()
        ]
    return Measured(tuple(rows), on)


def interleave(runs: Mapping[str, Callable[[], float]], plan: Plan) -> dict[str, list[float]]:
    """Return the milliseconds of each run by name, without the rounds that warm up.

    Each of ``runs`` runs its program once and returns the milliseconds.
    """
    spent: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for turn in range(-plan.warm_up, plan.most):
        if turn >= plan.least and time.perf_counter() - start > plan.seconds:
            break
        for name, run_ms in runs.items():
            spent_ms = run_ms()
            if turn >= 0:
                spent[name].append(spent_ms)
    return spent


def to_json(measured: Measured) -> dict[str, Any]:
    """Return ``latency.json``; rows of whole networks have an empty layer."""
    return {
        "measured_on": None if measured.on is None else asdict(measured.on),
        "rows": [_to_json(row) for row in measured.rows],
    }


def to_text(measured: Measured) -> str:
    """Return the times of whole networks as text, below what they were measured on."""
    table_ = to_table(measured.rows)
    return table_ if measured.on is None else f"{conditions.to_text(measured.on)}\n{table_}"


def to_table(rows: Sequence[Row]) -> str:
    """Return the times of whole networks as text, the fastest first."""
    networks = [row for row in rows if row.layer == NETWORK]
    networks.sort(key=lambda row: row.timing.median_ms)
    header = ("backend", "threads", "median ms", "min ms", "p90 ms", "runs")
    return table.render(
        header, [(row.backend, str(row.threads), *_cells(row.timing)) for row in networks]
    )


def to_layer_table(rows: Sequence[Row]) -> str:
    """Return the median milliseconds of each layer in each backend, and its BOPs, as text."""
    medians = {(row.layer, row.backend): row.timing.median_ms for row in rows}
    backends = list(dict.fromkeys(row.backend for row in rows))
    bops = {row.layer: row.bops for row in rows if row.layer != NETWORK}
    cells = [
        (
            layer,
            "" if count is None else table.count(count),
            *(f"{medians[layer, b]:.4f}" if (layer, b) in medians else "-" for b in backends),
        )
        for layer, count in bops.items()
    ]
    return table.render(("layer", "BOPs", *(f"{backend} ms" for backend in backends)), cells)


def _to_json(row: Row) -> dict[str, Any]:
    return {
        "backend": row.backend,
        "threads": row.threads,
        "layer": row.layer,
        **asdict(row.timing),
        "bops": row.bops,
    }


def _layers(entries: Sequence[Entry], runs: int, plan: Plan) -> list[dict[str, list[float]]]:
    found: list[dict[str, list[float]]] = [{} for _ in entries]
    for _ in range(BLOCKS):
        for entry, layers in zip(entries, found, strict=True):
            for layer, spent in entry.program.time_steps(entry.inputs, runs).items():
                layers.setdefault(layer, []).extend(spent[plan.warm_up :])
    return found


def _cells(timing: Timing) -> tuple[str, ...]:
    numbers = (timing.median_ms, timing.min_ms, timing.p90_ms)
    return (*(f"{number:.3f}" for number in numbers), str(timing.runs))
