"""Peaks of this machine: MACs per second and thread of every instruction that kernels use.

    python benchmarks/peaks.py [--target native] [--threads 2]

Each is the rate of a bare loop over registers and the first-level cache, the best of several
register tiles and of many short runs: no kernel can be faster. ``--threads`` runs such a loop on
several cores at once too: no kernel gains more by threads than these loops.
"""

from __future__ import annotations

import click

from gmpq import table
from gmpq.backends.tvm.target import find_cpu
from gmpq.errors import GmpqError
from machine.peaks import ROUNDS, Peaks, measure
from machine.quiet import scaling
from versus.document import machine


@click.command()
@click.option("--target", default="native", show_default=True, help="Whose instructions.")
@click.option("--rounds", default=ROUNDS, show_default=True, help="Half a millisecond per loop.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
def main(target: str, rounds: int, threads: int) -> None:
    """Print one row per instruction sequence."""
    try:
        found = find_cpu(target)
    except GmpqError as error:
        raise click.UsageError(str(error)) from error
    if not found.runs_here():
        raise click.UsageError(f"{target} does not run on this machine: use native")
    peaks = measure(found, rounds)
    print(f"{machine()}, {peaks.clock_hz / 1e9:.2f} GHz\n\n{rows(peaks)}")
    if threads > 1:
        best, middle = scaling(found, threads, rounds)
        times = f"{best:.2f} times as much as one by the best readings, {middle:.2f} by the medians"
        print(f"\n{threads} cores at once multiply {times}")


def rows(peaks: Peaks) -> str:
    """Return a table of the rates, the highest first."""
    header = ("instruction", "tile", "GMAC/s", "MACs/cycle")
    ordered = sorted(peaks.rates.items(), key=lambda item: -item[1])
    lines = [
        (name, peaks.tiles[name], f"{rate / 1e9:.1f}", f"{rate / peaks.clock_hz:.1f}")
        for name, rate in ordered
    ]
    return table.render(header, lines)


if __name__ == "__main__":
    main()
