"""Several threads call one compiled network at once: is every result right, and how many a second?

    python benchmarks/callers.py OUT [--callers 8] [--runs 2000]

``OUT`` was compiled for this machine. One network, then four loads of the directory, run by one and
by two separate threads; every result is compared with that of a single call, by its bits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from gmpq import runtime, table
from gmpq.errors import OutputError
from gmpq.runtime import Floats, Network
from versus.document import machine

LOADS, THREADS = (1, 4), (1, 2)


@dataclass(frozen=True)
class Sample:
    """Inputs, and the bits of the outputs that a single call returns for them."""

    inputs: tuple[Floats, ...]
    expected: bytes


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--callers", type=click.IntRange(1), default=8, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=2000, show_default=True, help="Of each.")
def main(out: Path, callers: int, runs: int) -> None:
    """Print a row per number of loads and threads; exit with 1 if a result is wrong."""
    try:
        with runtime.load(out) as network:
            samples = [sample(network, seed) for seed in range(callers)]
    except OutputError as error:
        raise click.UsageError(str(error)) from error
    rows = [row(out, loads, t, samples, runs) for loads in LOADS for t in THREADS]
    header = ("loads", "threads", "runs", "wrong", "runs/s")
    print(f"{machine()}, {callers} callers\n\n{table.render(header, rows)}")
    raise SystemExit(any(cells[3] != "0" for cells in rows))


def sample(network: Network, seed: int) -> Sample:
    """Return random inputs of ``network``, and what it returns for them."""
    random = np.random.default_rng(seed)
    inputs = tuple(random.normal(size=end.shape).astype(np.float32) for end in network.inputs)
    return Sample(inputs, bits(network, inputs))


def bits(network: Network, inputs: Sequence[Floats]) -> bytes:
    """Return the outputs of one call, one after the other."""
    return b"".join(array.tobytes() for array in network.run_named(*inputs).values())


def row(
    out: Path, loads: int, threads: int, samples: Sequence[Sample], runs: int
) -> tuple[str, ...]:
    """Return how often callers of ``loads`` networks, in turn, get something else."""
    networks = [runtime.load(out) for _ in range(loads)]
    for network in networks:
        network.set_threads(threads)

    def call(number: int) -> int:
        network = networks[number % loads]
        chosen = [samples[(number + i) % len(samples)] for i in range(runs)]
        return sum(bits(network, each.inputs) != each.expected for each in chosen)

    start = time.perf_counter()
    with ThreadPoolExecutor(len(samples)) as pool:
        wrong = sum(pool.map(call, range(len(samples))))
    total, seconds = runs * len(samples), time.perf_counter() - start
    for network in networks:
        network.close()
    return str(loads), str(threads), str(total), str(wrong), f"{total / seconds:.0f}"


if __name__ == "__main__":
    main()
