"""All steps of one network: kernel, time, speed, share of the peak, and what was predicted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gmpq import table
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.plan.plan import Step
from gmpq.backends.tvm.tuning.level import TuningLevel
from machine import peaks as machine_peaks
from machine.peaks import Peaks
from machine.quiet import load_probe
from versus.baselines.gmpq_tool import compile_gmpq
from versus.bench import Bench
from versus.entry import Compiled
from versus.options import Options
from versus.policies import choose
from versus.rows import or_dash
from versus.shares import StepTime, of_peak, squares, step_times
from versus.subject import Subject

HEADER = (
    *("layer", "kernel", "configuration", "instruction", "ms", "again", "GMAC/s", "of the peak"),
    *("predicted ms", "measured / predicted"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """A compiled network with the times of its steps, and the peaks of the machine."""

    subject: Subject
    compiled: Compiled
    peaks: Peaks
    times: list[StepTime]


@contextmanager
def timed(options: Options) -> Iterator[Timed]:
    """Give the one network, policy and number of threads of ``options``, while its files exist.

    Raises:
        GmpqError: the target cannot be compiled for.
    """
    (name,), (policy,), (threads,) = options.networks, options.bits, options.threads
    subject = Subject.of(name, options.seed)
    bits = choose(policy, name, subject.macs, options.seed)
    with tempfile.TemporaryDirectory(prefix="gmpq-layers-") as folder:
        scratch = Path(folder)
        cache = options.cache if options.cache is not None else scratch
        tune = TuningLevel(options.tune)
        bench = Bench(subject, cache, scratch, target=options.target, tune=tune)
        compiled = compile_gmpq(bench, subject.quantized(bits), threads)
        native = targets.find_cpu(options.target)
        peaks = machine_peaks.measure(native)
        with load_probe(native, threads) as reading:
            times = step_times(compiled, subject.image, peaks, threads, reading)
        yield Timed(subject, compiled, peaks, times)


def report(options: Options) -> str:
    """Return the table of the one network, policy and number of threads of ``options``.

    Raises:
        GmpqError: the target cannot be compiled for.
    """
    (threads,) = options.threads
    with timed(options) as found:
        steps, macs = found.compiled.built.plan.steps, found.subject.macs
        lines = cells(steps, found.times, macs, found.peaks, threads)
        text = summary(found.compiled, found.times)
    return f"{found.peaks}\n\n{table.render(HEADER, lines)}\n\n{text}"


def cells(
    steps: Sequence[Step],
    times: Sequence[StepTime],
    macs: dict[str, int],
    peaks: Peaks,
    threads: int,
) -> list[tuple[str, ...]]:
    """Return a line per step; ``macs`` are those of layers, whatever their kernels multiply."""
    return [
        (
            step.node,
            step.kernel,
            step.configuration,
            step.work.instruction if step.work is not None else "",
            f"{spent.ms:.4f}",
            f"{spent.again_ms:.4f}",
            f"{macs[step.node] / spent.ms / 1e6:.1f}" if step.node in macs and step.work else "-",
            or_dash(spent.share, lambda share: f"{share:.0%}"),
            *_prediction(peaks.predicted_ms(step.cost, threads), spent.ms),
        )
        for step, spent in zip(steps, times, strict=True)
    ]


def _prediction(predicted_ms: float, ms: float) -> tuple[str, str]:
    """Return what was predicted; kernels without competitors have no prediction."""
    return (f"{predicted_ms:.4f}", f"{ms / predicted_ms:.2f}") if predicted_ms else ("-", "-")


def summary(compiled: Compiled, times: Sequence[StepTime]) -> str:
    """Return the time of all steps and the shares of some; of their second runs in brackets."""
    names = squares(compiled.graph)
    layers = {
        "3x3": [step for step in times if step.node in names],
        "all layers": [step for step in times if step.multiplies],
    }
    parts = [
        f"{name} {of_peak(found):.0%} ({of_peak(found, again=True):.0%}) of the peak"
        for name, found in layers.items()
        if found
    ]
    spent = f"{sum(step.ms for step in times):.3f} ({sum(step.again_ms for step in times):.3f}) ms"
    return ", ".join([spent, *parts])
