"""Kernels chosen by predicted cycles compared with kernels chosen by measured time.

    python benchmarks/predictions.py --networks resnet18 --bits w8a8,w4a4 --cache out/baselines

Both programs of a network run in turn; a ratio of 1.1 says that predictions cost 10%.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import click

from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.plan.plan import Chooser, predicted
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import Tuning, tuned
from gmpq.runtime import Network
from machine.quiet import load_probe
from versus import rows
from versus.baselines.gmpq_tool import TIMES
from versus.options import BITS, NETWORKS, Counts, Names
from versus.policies import choose
from versus.subject import Subject
from versus.timing import Plan, round_robin

FOLDER = click.Path(path_type=Path, file_okay=False)
HEADER = ("network", "bits", "threads", "predicted ms", "tuned ms", "predicted / tuned")
PLAN = replace(Plan(), seconds=5.0)


def medians(
    subject: Subject, bits: str, threads: int, choosers: dict[str, Chooser], folder: Path
) -> dict[str, float]:
    """Return the median milliseconds of the program of every chooser, by its name."""
    graph = subject.quantized(choose(bits, subject.name, subject.macs, 0))
    networks = {}
    for name, chooser in choosers.items():
        directory = folder / name
        directory.mkdir()
        built = build(graph, targets.find_cpu("native"), directory, chooser)
        networks[name] = Network(directory, built.program)
        networks[name].set_threads(threads)
    image = subject.image
    runs = {name: lambda network=network: network.run(image) for name, network in networks.items()}
    with load_probe(targets.find_cpu("native"), threads) as reading:
        spent = round_robin(runs, PLAN, reading)
    for network in networks.values():
        network.set_threads(1)
    return {name: measured.timing.median_ms for name, measured in spent.items()}


@click.command()
@click.option("--networks", type=Names(), default=",".join(NETWORKS), show_default=True)
@click.option("--bits", type=Names(), default=",".join(BITS), show_default=True)
@click.option("--threads", type=Counts(), default="1,2", show_default=True)
@click.option("--cache", type=FOLDER, required=True, help="Keep measured times of kernels here.")
def main(
    networks: tuple[str, ...], bits: tuple[str, ...], threads: tuple[int, ...], cache: Path
) -> None:
    """Print a row per network, policy and number of threads."""
    lines = []
    for name in networks:
        subject = Subject.of(name, 0)
        for policy in bits:
            for count in threads:
                measure = tuned(Tuning(TuningLevel.QUICK, count, cache / TIMES), lambda _: None)
                choosers = {"predicted": predicted(count), "tuned": measure}
                with tempfile.TemporaryDirectory() as folder:
                    found = medians(subject, policy, count, choosers, Path(folder))
                ratio = found["predicted"] / found["tuned"]
                times = (f"{found[key]:.3f}" for key in choosers)
                lines.append((name, policy, str(count), *times, f"{ratio:.3f}"))
                click.echo("  ".join(lines[-1]), err=True)
    click.echo(rows.to_text(HEADER, lines))


if __name__ == "__main__":
    main()
