"""Which observer of activations loses least, by bits: what the default is chosen by.

    python benchmarks/observers.py [--networks NAMES] [--observers minmax,mse] [--swap]
        [--output-bits 8]

Each network is calibrated on photographs of scikit-image and compared with its float form on crops
of foolbox's ImageNet photographs; ``--swap`` exchanges both sets. EfficientNet-Lite0 has its
ImageNet weights, others realistic random ones. Weights have the same bits, but for ``w8aN``; the
first and the last layer have 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from gmpq import models, table
from gmpq.accuracy.metrics import Energy, largest
from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.torch_float import run_outputs
from gmpq.calib.collect import collect
from gmpq.calib.observers import OBSERVERS, find
from gmpq.calib.statistics import Statistics
from gmpq.inputs.compile_inputs import Sources, open_network
from gmpq.inputs.images import Preprocessing, find_images, preprocess
from gmpq.inputs.photographs import open_photograph
from gmpq.ir import FloatGraph
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import InputSpec, LayerBits, ModelSpec, Policy
from gmpq.policy import file as policy_file

LITE0 = Path(__file__).parents[1] / "examples" / "efficientnet_lite0_w8a8.json"
NETWORKS = "efficientnet_lite0,mobilenet_v2,resnet18,squeezenet1_1"
BITS = "w8a8,w8a6,w8a4,w6a6,w4a4"
SKIMAGE = (
    *("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png"),
    *("motorcycle_right.png", "retina.jpg", "rocket.jpg"),
)
PHOTOGRAPHS = tuple(f"package:skimage/data/{name}" for name in SKIMAGE)
IMAGENET = ("package:foolbox/data/imagenet_*.jpg",)
LARGER = (224, 256, 320)  # pixels of the shorter side that crops are cut from

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A network, what calibration saw of it, and what its float form answers."""

    graph: FloatGraph
    statistics: Mapping[str, Statistics]
    images: Floats
    expected: Floats


@click.command()
@click.option("--networks", default=NETWORKS, show_default=True)
@click.option("--observers", default=",".join(each.name for each in OBSERVERS))
@click.option("--bits", default=BITS, show_default=True, help="Of weights and inputs.")
@click.option("--output-bits", type=click.IntRange(1, 8), help="Of codes at the outputs.")
@click.option("--swap", is_flag=True, help="Calibrate on foolbox's photographs.")
def main(networks: str, observers: str, bits: str, output_bits: int | None, swap: bool) -> None:
    """Print a table per network."""
    seen, held = (IMAGENET, PHOTOGRAPHS) if swap else (PHOTOGRAPHS, IMAGENET)
    chosen = [QuantizeOptions(find(name), output_bits=output_bits) for name in observers.split(",")]
    widths = [LayerBits(int(pair[1]), int(pair[3])) for pair in bits.split(",")]
    for name in networks.split(","):
        subject = prepare(name, seen, held)
        rows = [row(subject, pair, chosen) for pair in widths]
        header = ("bits", *(f"{how.observer.name} dB, agree" for how in chosen))
        click.echo(f"{name}: {len(subject.images)} crops\n{table.render(header, rows)}\n")


def prepare(name: str, seen: tuple[str, ...], held: tuple[str, ...]) -> Subject:
    """Return the network ``name``, calibrated on ``seen`` and asked about crops of ``held``."""
    policy = policy_file.read(LITE0) if name == "efficientnet_lite0" else random_policy(name)
    network = open_network(policy, Sources(LITE0))
    graph = lower(network.module, network.shape, network.name)
    how = Preprocessing.of(network.shape, policy.model.input)
    images = np.stack(list(crops(held, how)))
    statistics = collect(graph, map(torch.from_numpy, find_images(seen, how).batches(8)))
    return Subject(graph, statistics, images, answers(graph, images))


def random_policy(name: str) -> Policy:
    """Return a policy of the built-in network ``name`` with random weights."""
    channels, height, width = models.find(name).shape
    shape = (1, channels, height, width)
    spec = InputSpec(shape, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize=256)
    return Policy({}, LayerBits(8, 8), model=ModelSpec(name, "random", spec))


def crops(locations: tuple[str, ...], how: Preprocessing) -> Iterator[Floats]:
    """Yield each photograph at three sizes, as it is and mirrored."""
    for item in find_images(locations, how).items:
        assert isinstance(item, Path)
        photograph = open_photograph(item)
        for resize in LARGER:
            pixels = preprocess(photograph, replace(how, resize=resize))
            yield from (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))


def answers(graph: FloatGraph, images: Floats) -> Floats:
    """Return the first output of ``graph`` for ``images``."""
    parts = np.array_split(images, max(1, len(images) // 8))
    return np.concatenate([run_outputs(graph, part)[0] for part in parts])


def row(subject: Subject, bits: LayerBits, options: list[QuantizeOptions]) -> tuple[str, ...]:
    """Return what every observer loses at ``bits``."""
    cells = [cell(subject, bits, how) for how in options]
    return (f"w{bits.w}a{bits.a}", *cells)


def cell(subject: Subject, bits: LayerBits, options: QuantizeOptions) -> str:
    """Return SQNR and agreement of the largest class."""
    names = cost.layer_names(subject.graph)
    first_last = (names[0], names[-1])
    chosen = {name: LayerBits(8, 8) if name in first_last else bits for name in names}
    graph = quantize_network(subject.graph, chosen, subject.statistics, options)
    program, (source,) = TorchCodes(graph), graph.inputs
    parts = np.array_split(subject.images, max(1, len(subject.images) // 8))
    found = np.concatenate([program.run({source: p})[graph.outputs[0]] for p in parts])
    same = float((largest(found) == largest(subject.expected)).mean())
    return f"{Energy.of(subject.expected, found).sqnr_db:.2f}, {same:.1%}"


if __name__ == "__main__":
    main()
