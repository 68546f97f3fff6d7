"""Bit-for-bit parity of whole networks at 224x224, through the compiler as a user runs it.

    python benchmarks/parity.py [--networks resnet18,...] [--random 5]

Each network gets realistic random weights (EfficientNet-Lite0 its ImageNet weights), is compiled
with W8A8, W4A4 and random policies of 2 to 8 bits, and every quantized tensor of every program is
compared with the reference.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from gmpq import models
from gmpq.artifact.parity import Parity
from gmpq.compile.network import compile_network
from gmpq.compile.options import CompileOptions
from gmpq.inputs.compile_inputs import Sources, open_inputs
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.policy import InputSpec, LayerBits, ModelSpec, Policy
from gmpq.policy import file as policy_file

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "squeezenet1_1", "efficientnet_lite0")
WEIGHTS = {
    "efficientnet_lite0": "package:efficientnet-lite0",
}
PHOTOGRAPHS = "package:skimage/data"
PROGRAMS = (("torch", ""), ("tvm", "unfused"), ("onnxruntime", "all"), ("onnxruntime", "disabled"))


def policies(layers: tuple[str, ...], count: int) -> Iterator[tuple[str, dict[str, LayerBits]]]:
    """Yield W8A8, W4A4 and ``count`` random policies of 2 to 8 bits."""
    for bits in (8, 4):
        yield f"W{bits}A{bits}", dict.fromkeys(layers, LayerBits(bits, bits))
    for seed in range(count):
        drawn = np.random.default_rng(seed).integers(2, 9, (len(layers), 2))
        rows = zip(layers, drawn.tolist(), strict=True)
        yield f"random {seed}", {name: LayerBits(w, a) for name, (w, a) in rows}


def layers_of(network: str) -> tuple[str, ...]:
    """Return the layers that a policy of the network covers."""
    arch = models.find(network)
    return tuple(cost.layer_names(lower(arch.build().eval(), (1, *arch.shape), network)))


def compiled(network: str, bits: dict[str, LayerBits]) -> Parity:
    """Return the parity that compiling for this machine finds."""
    weights = WEIGHTS.get(network, "random:0")
    spec = ModelSpec(network, weights, InputSpec(mean=(0.485, 0.456, 0.406), std=(0.25,) * 3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.json"
        policy_file.write(Policy(bits, model=spec), path)
        inputs = open_inputs(Sources(path, calibration=(PHOTOGRAPHS,), images=8))
        options = CompileOptions(bench=False, samples=1)
        return compile_network(inputs, options, Path(folder) / "out").parity


def row(parity: Parity) -> str:
    """Return different and compared values of each program."""
    cells = []
    levels = parity.levels()
    for backend, level in PROGRAMS:
        # Where nothing is fused, the shipped program shows everything.
        tensors = levels.get((backend, level)) or levels[backend, "shipped"]
        different = sum(c.different for c in tensors)
        cells.append(f"{different:>6} / {sum(c.compared for c in tensors):<10}")
    return " ".join(cells)


@click.command()
@click.option("--networks", default=",".join(NETWORKS), show_default=True)
@click.option("--random", "count", default=5, help="Random policies per network.")
def main(networks: str, count: int) -> None:
    """Print a row per network and policy; exit with 1 if a program is not equal."""
    print(f"{'network':20} {'policy':10} {'s':>4} " + " ".join(f"{b} {v:14}" for b, v in PROGRAMS))
    equal = True
    for network in networks.split(","):
        for name, bits in policies(layers_of(network), count):
            start = time.perf_counter()
            parity = compiled(network, bits)
            equal &= parity.equal
            seconds = time.perf_counter() - start
            verdict = "equal" if parity.equal else f"DIFFERENT at {parity.first_divergence}"
            print(f"{network:20} {name:10} {seconds:4.0f} {row(parity)} {verdict}", flush=True)
    sys.exit(not equal)


if __name__ == "__main__":
    main()
