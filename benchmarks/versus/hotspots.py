"""Where the time of multiplying steps goes: in multiplying loops, and elsewhere.

A Winograd kernel transforms its input and its output, and every kernel requantizes. Samples of the
instruction pointer show how much of a step's time that takes. The rest is spent in the loops: their
share of the peak is what remains to be gained within them, and the time outside of them keeps the
step from the peak even if its loops reach it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import click

from gmpq import table
from gmpq.backends.tvm.plan.plan import Step
from machine.machine_code import Code, disassembled, loaded_at
from machine.sampler import sampled
from versus.options import Options
from versus.rows import or_dash
from versus.shares import StepTime, of_peak, squares
from versus.steps import Timed, timed

HEADER = (
    *("layer", "kernel", "configuration", "instruction", "ms", "of the peak"),
    *("in multiplying loops", "the loops' share of the peak"),
)
SECONDS = 1.0  # of samples per step
LEAST = 1 / 8  # of a block's instructions multiply, where it belongs to a multiplying loop


@dataclass(frozen=True, slots=True)
class Spot:
    """A step's time, and the share of it that it spends in multiplying loops."""

    time: StepTime
    multiplying: float

    @property
    def loops_share(self) -> float | None:
        """Of the peak that loops reach; None where none is known, and where no loop is found."""
        share = self.time.share
        return share / self.multiplying if share is not None and self.multiplying else None


def report(options: Options) -> str:
    """Return the table of the one network, policy and single thread of ``options``.

    Raises:
        GmpqError: the target cannot be compiled for.
        click.UsageError: the processor is none of x86.
        click.ClickException: perf or objdump is missing.
    """
    if platform.machine() != "x86_64":
        raise click.UsageError(f"--sample reads code of x86_64, not of {platform.machine()}")
    with timed(options) as found:
        steps = found.compiled.built.plan.steps
        spots = list(_spots(found))
        rows = [
            cells(step, spot) for step, spot in zip(steps, spots, strict=True) if spot.multiplying
        ]
        names = squares(found.compiled.graph)
    text = summary([spot for spot in spots if spot.time.node in names])
    return f"{found.peaks}\n\n{table.render(HEADER, rows)}\n\n{text}"


def _spots(found: Timed) -> Iterator[Spot]:
    compiled = found.compiled
    code, base = disassembled(compiled.library), loaded_at(compiled.library)
    run = compiled.network.stepper(found.subject.image)
    for i, (step, time) in enumerate(zip(compiled.built.plan.steps, found.times, strict=True)):
        if step.work is None:
            yield Spot(time, 0.0)
            continue
        places = [address - base for address in sampled(partial(run, i, i + 1), SECONDS)]
        name = step.work.instruction.split("+")[0]
        yield Spot(time, multiplying(code, places, name))


def multiplying(code: Code, places: Iterable[int], name: str) -> float:
    """Return the share of places inside ``code`` in blocks that multiply by the instruction."""
    blocks = [block for block in map(code.at, places) if block is not None]
    return sum(block.share(name) >= LEAST for block in blocks) / len(blocks) if blocks else 0.0


def cells(step: Step, spot: Spot) -> tuple[str, ...]:
    """Return the cells of ``HEADER``."""
    assert step.work is not None
    shares = (spot.time.share, spot.multiplying, spot.loops_share)
    percents = (or_dash(share, lambda value: f"{value:.0%}") for share in shares)
    about = (step.node, step.kernel, step.configuration, step.work.instruction)
    return (*about, f"{spot.time.ms:.4f}", *percents)


def summary(spots: Sequence[Spot]) -> str:
    """Return the same for several steps together, by their time."""
    share = of_peak(spot.time for spot in spots)
    if not share:
        return "no 3x3 layers with a known peak"
    whole = sum(spot.time.ms for spot in spots)
    loops = sum(spot.time.ms * spot.multiplying for spot in spots) / whole
    return (
        f"3x3 {share:.0%} of the peak; {loops:.0%} of their time in multiplying loops, "
        f"which alone reach {share / loops:.0%}"
    )
