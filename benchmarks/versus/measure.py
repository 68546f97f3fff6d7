"""Measuring one network on some threads: every policy of gmpq and every baseline in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import click

from gmpq.backends.tvm.target import find_cpu
from gmpq.passes.cost import NetworkCost
from machine.quiet import LoadProbe, load_probe
from versus.baselines.gmpq_tool import open_gmpq
from versus.baselines.tools import open_baseline
from versus.bench import Bench
from versus.entry import Entry
from versus.names import GMPQ, ORT_QDQ
from versus.policies import choose, ladder
from versus.rows import Row, fastest
from versus.shares import share
from versus.timing import Measured, Plan, round_robin

IDLE = 0.1  # of a core: what a clock that ticks coarsely may add


@dataclass(frozen=True, slots=True)
class Cell:
    """What to measure of a network in one run."""

    bits: tuple[str, ...]
    tools: tuple[str, ...]
    threads: int
    seed: int
    plan: Plan


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The rows of a cell, and what each tool says it ran."""

    rows: list[Row]
    kernels_used: dict[str, str]


def measure(bench: Bench, cell: Cell) -> Found:
    """Return the rows of every policy and tool of a cell.

    Raises:
        click.UsageError: a policy or a tool cannot be had.
    """
    subject = bench.subject
    opened, costs = [], {}
    for name in cell.bits if GMPQ in cell.tools else ():
        bits = choose(name, subject.name, subject.macs, cell.seed)
        costs[name] = subject.cost(bits)
        opened.append(open_gmpq(bench, subject.quantized(bits), name, cell.threads))
    for tool in cell.tools:
        if tool != GMPQ:
            opened += open_baseline(tool, bench, cell.threads)
    with load_probe(find_cpu(bench.target), cell.threads) as reading:
        spent = _run(opened, cell, reading)
        shares = [_share(bench, entry, cell.threads, reading) for entry in opened]
    rows = [
        replace(_row(bench, cell, name, entry, measured, costs.get(name)), **shared)
        for name in cell.bits
        for entry, measured, shared in zip(opened, spent, shares, strict=True)
        if entry.tool != GMPQ or entry.variant == name
    ]
    kernels_used = {f"{found.tool} ({found.variant})": found.kernels_used for found in opened}
    return Found(fastest(rows), kernels_used)


def measure_ladder(bench: Bench, cell: Cell, count: int) -> list[Row]:
    """Return the rows of ``count`` policies from few BOPs to many, in gmpq and onnxruntime."""
    from versus.baselines.onnxruntime_tool import open_policy

    subject = bench.subject
    opened, costs = [], {}
    for number, bits in enumerate(ladder(subject.macs, count)):
        name = f"draw-{number:02}"
        costs[name] = subject.cost(bits)
        graph = subject.quantized(bits)
        opened.append(open_gmpq(bench, graph, name, cell.threads))
        opened.append(open_policy(bench, graph, name, cell.threads))
    with load_probe(find_cpu(bench.target), cell.threads) as reading:
        spent = _run(opened, cell, reading)
    return [
        _row(bench, cell, entry.variant, entry, measured, costs[entry.variant])
        for entry, measured in zip(opened, spent, strict=True)
    ]


def _run(opened: Sequence[Entry], cell: Cell, reading: LoadProbe) -> list[Measured]:
    runs = {str(number): entry.run for number, entry in enumerate(opened)}
    spent = list(round_robin(runs, cell.plan, reading).values())
    for entry, measured in zip(opened, spent, strict=True):
        if measured.cores > cell.threads + IDLE:
            click.echo(
                f"warning: {entry.tool} ({entry.variant}) kept {measured.cores:.2f} cores "
                f"busy on {cell.threads} threads",
                err=True,
            )
    return spent


def _share(bench: Bench, entry: Entry, threads: int, reading: LoadProbe) -> dict[str, Any]:
    """Return the fields of ``Shares`` of a program of gmpq."""
    if entry.compiled is None or bench.peaks is None:
        return {}
    image = bench.subject.image
    return asdict(share(entry.compiled, image, bench.peaks, threads, reading))


def _row(
    bench: Bench,
    cell: Cell,
    bits: str,
    entry: Entry,
    measured: Measured,
    cost: NetworkCost | None,
) -> Row:
    ours = cost is not None and entry.tool in (GMPQ, ORT_QDQ)
    return Row(
        network=bench.subject.name,
        bits=bits,
        threads=cell.threads,
        tool=entry.tool,
        variant=entry.variant,
        median_ms=measured.timing.median_ms,
        min_ms=measured.timing.min_ms,
        p90_ms=measured.timing.p90_ms,
        runs=measured.timing.runs,
        processor_ms=measured.processor_ms,
        cores=measured.cores,
        quiet=measured.quiet,
        all_ms=measured.all_ms,
        exact=entry.exact,
        bops=cost.bops if cost is not None and ours else None,
        published_bops=cost.published_bops if cost is not None and ours else None,
    )
