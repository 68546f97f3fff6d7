"""From options to measured rows, tables on the terminal, and files."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.tuning.level import TuningLevel
from machine.peaks import Peaks
from machine.peaks import measure as measure_peaks
from versus import correlation, document, rows, shares
from versus.baselines.tools import versions
from versus.bench import Bench
from versus.measure import Cell, measure, measure_ladder
from versus.names import GMPQ
from versus.options import NATIVE, Options
from versus.rows import Row
from versus.subject import Subject
from versus.timing import Plan

ENVIRONMENT = ("ONEDNN_MAX_CPU_ISA",)  # OpenVINO's instructions


def run(options: Options) -> list[Row]:
    """Measure, print and write what ``options`` ask for; return all rows.

    Raises:
        click.UsageError: something asked for cannot be had, or not be written.
        GmpqError: the target cannot be compiled for.
    """
    _check_outputs(options)
    about = [
        f"machine: {document.machine()}",
        f"versions: {versions()}",
        f"date: {datetime.now(UTC).date()}, load before the run {os.getloadavg()[0]:.1f}",
    ]
    click.echo("\n".join(about))
    if options.correlation:
        found = correlate(options)
        shown = [correlation.cells(found)]
    else:
        peaks = measure_peaks(targets.find_cpu(options.target)) if GMPQ in options.tools else None
        if peaks is not None:
            about.append(f"peaks: {peaks}")
            click.echo(about[-1])
        found = compare(options, peaks)
        shown = [rows.summary(found), rows.details(found)]
        if peaks is not None:
            shown.append(shares.table(found))
    for table in shown:
        click.echo("\n" + rows.to_text(*table))
    command = (
        f"command: `{_environment()}python benchmarks/baselines.py {shlex.join(sys.argv[1:])}`"
    )
    content = "  \n".join([*about, command]) + "\n"
    content += "".join(f"\n{rows.to_markdown(*table)}\n" for table in shown)
    _write(options, found, content)
    return found


def compare(options: Options, peaks: Peaks | None) -> list[Row]:
    """Return the rows of all policies and tools, the fastest variant of each tool."""
    found: list[Row] = []
    for network in options.networks:
        with opened(options, network, peaks) as bench:
            for threads in options.threads:
                click.echo(f"\n{network}, {threads} threads", err=True)
                result = measure(bench, _cell(options, threads))
                found += result.rows
                click.echo(
                    "".join(f"\n{tool}: {text}" for tool, text in result.kernels_used.items())
                )
    return found


def correlate(options: Options) -> list[Row]:
    """Return the rows of policies from few BOPs to many, in gmpq and in onnxruntime."""
    found: list[Row] = []
    for network in options.networks:
        with opened(options, network) as bench:
            for threads in options.threads:
                click.echo(f"{network}, {threads} threads", err=True)
                found += measure_ladder(bench, _cell(options, threads), correlation.POLICIES)
    return found


@contextmanager
def opened(options: Options, network: str, peaks: Peaks | None = None) -> Iterator[Bench]:
    """Give a bench of ``network``, whose temporary files go when it is done."""
    with tempfile.TemporaryDirectory(prefix="gmpq-baselines-") as folder:
        scratch = Path(folder)
        cache = options.cache if options.cache is not None else scratch / "cache"
        subject = Subject.of(network, options.seed)
        tune = TuningLevel(options.tune)
        yield Bench(subject, cache, scratch, options.onnx, options.target, tune, peaks)


def _environment() -> str:
    """Return the variables that change what other tools run, as a shell takes them."""
    return "".join(f"{name}={os.environ[name]} " for name in ENVIRONMENT if name in os.environ)


def _cell(options: Options, threads: int) -> Cell:
    plan = Plan(seconds=options.seconds)
    return Cell(options.bits, options.tools, threads, options.seed, plan)


def _check_outputs(options: Options) -> None:
    """Refuse files that could not be written after all the measuring."""
    for path in (options.json, options.docs, options.plot):
        if path is not None and not path.parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {path.parent}: make it")
    if options.docs is not None and options.docs.exists():
        document.replace_block(options.docs.read_text("utf-8"), _block(options), "")


def _block(options: Options) -> str:
    """Return the name of what the measurement replaces in a document: that of its processor."""
    kind = document.processor_kind()
    processor = kind if options.target == NATIVE else f"{kind} {options.target}"
    return f"{'correlation' if options.correlation else 'baselines'} {processor}"


def _write(options: Options, found: Sequence[Row], content: str) -> None:
    if options.json is not None:
        options.json.write_text(json.dumps(rows.to_json(found), indent=1) + "\n", "utf-8")
    if options.docs is not None:
        document.update(options.docs, _block(options), content)
    if options.plot is not None:
        correlation.plot(found, options.plot)
