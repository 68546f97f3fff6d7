"""Speed of single layers: GMAC/s of gmpq's kernels on this machine.

    python benchmarks/layers.py [--threads 1] [--bits 8]
    python benchmarks/layers.py --network resnet18 --bits w4a4 [--tune quick --cache out/baselines]
    python benchmarks/layers.py --network resnet18 --bits w4a4 --sample

Without a network each row is one convolution inside its own program; the figure is the median
of many runs. With one, each row is a step of the whole network, and how near it comes to the peak.
``--sample`` shows what keeps layers from the peak: how much of their time they multiply.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.errors import GmpqError
from gmpq.runtime import Network
from versus import hotspots, steps
from versus.layer import Layer, one_layer
from versus.options import Options

TUNING_LEVELS = click.Choice([level.value for level in TuningLevel])
FOLDER = click.Path(path_type=Path, file_okay=False)
LAYERS = (  # as Layer has them
    Layer(224, 3, 64, 7, 2, 1),
    Layer(56, 64, 64, 3, 1, 1),
    Layer(28, 128, 128, 3, 1, 1),
    Layer(14, 256, 256, 3, 1, 1),
    Layer(7, 512, 512, 3, 1, 1),
    Layer(56, 64, 128, 3, 2, 1),
    Layer(56, 64, 256, 1, 1, 1),
    Layer(56, 256, 64, 1, 1, 1),
    Layer(28, 512, 128, 1, 1, 1),
    Layer(14, 1024, 256, 1, 1, 1),
    Layer(7, 2048, 512, 1, 1, 1),
    Layer(7, 512, 2048, 1, 1, 1),
    Layer(1, 512, 1000, 1, 1, 1),
    Layer(112, 32, 16, 1, 1, 1),
    Layer(56, 24, 144, 1, 1, 1),
    Layer(14, 576, 96, 1, 1, 1),
    Layer(112, 32, 32, 3, 1, 32),
    Layer(112, 96, 96, 3, 2, 96),
    Layer(14, 576, 576, 3, 1, 576),
    Layer(14, 480, 480, 5, 1, 480),
)


def median_seconds(run: Callable[[], None], seconds: float = 0.2) -> float:
    """Return the median time of ``run`` over about ``seconds``."""
    for _ in range(3):
        run()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 5:
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def measure(layer: Layer, bits: int, target: str, threads: int) -> tuple[str, float]:
    """Return the kernel's name and the median seconds of the layer."""
    graph = one_layer(layer, bits)
    with tempfile.TemporaryDirectory() as directory:
        program = build(graph, find(target), Path(directory)).program
        network = Network(Path(directory), program)
        network.set_threads(threads)
        image = np.random.default_rng(1).uniform(0, (1 << bits) - 1, graph.values["image"].shape)
        step = network.stepper(image.astype(np.float32))
        step(0, 1)
        seconds = median_seconds(lambda: step(1, 2))
        network.set_threads(1)
    return program.steps[1].kernel, seconds


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--bits", default="8", show_default=True, help="8, or of a network w4a8, mixed, ...")
@click.option("--target", default="native", show_default=True)
@click.option("--network", help="Show all steps of this built-in network.")
@click.option(
    "--tune", type=TUNING_LEVELS, default="off", show_default=True, help="As in gmpq-compile."
)
@click.option("--cache", type=FOLDER, help="Of measured times of kernels.")
@click.option("--seed", default=0, show_default=True, help="Of a network's weights and image.")
@click.option(
    "--sample", is_flag=True, help="Show where time goes; needs Linux's perf and objdump."
)
def main(
    threads: int,
    bits: str,
    target: str,
    network: str | None,
    tune: str,
    cache: Path | None,
    seed: int,
    sample: bool,
) -> None:
    """Print one row per layer."""
    if sample and (network is None or threads != 1):
        raise click.UsageError("--sample looks at one thread of a whole network: name a --network")
    if network is None:
        if not bits.isdecimal() or not 1 <= int(bits) <= 8:
            raise click.UsageError(f"--bits {bits}: use 1 to 8, or name a --network")
        print_layers(threads, int(bits), target)
        return
    policy = f"w{bits}a{bits}" if bits.isdecimal() else bits
    try:
        if not find(target).runs_here():
            raise click.UsageError(f"{target} does not run on this machine: use native")
        options = Options(
            (network,), (policy,), (threads,), seed=seed, target=target, tune=tune, cache=cache
        )
        print(hotspots.report(options) if sample else steps.report(options))
    except GmpqError as error:
        raise click.UsageError(str(error)) from error


def print_layers(threads: int, bits: int, target: str) -> None:
    """Print one row per layer of ``LAYERS``."""
    print(f"{'layer':34} {'kernel':10} {'ms':>8} {'GMAC/s':>8}")
    for layer in LAYERS:
        kernel, seconds = measure(layer, bits, target, threads)
        speed = layer.macs / seconds / 1e9
        print(f"{layer!s:34} {kernel:10} {seconds * 1e3:8.3f} {speed:8.0f}")


if __name__ == "__main__":
    main()
