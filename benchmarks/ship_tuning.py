"""Measure the kernels of the example policies and write the results that gmpq ships.

    python benchmarks/ship_tuning.py [--targets native,x86-64-v4-vnni] [--threads 1,2]

Layers that are known already are not measured again; delete
``backends/tvm/tuning/shipped.json`` to start anew. Run it on a quiet machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.backends.tvm.tuning.tune import SHIPPED, Tuning, tuned
from gmpq.calib.collect import collect
from gmpq.inputs.compile_inputs import Sources, open_inputs
from gmpq.ir import IntGraph
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import bind

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOGRAPHS = "package:skimage/data"


def quantized(policy: Path) -> IntGraph:
    """Return the integer graph of an example."""
    import torch

    inputs = open_inputs(Sources(policy, calibration=(PHOTOGRAPHS,), images=4))
    network = inputs.network
    graph = lower(network.module, network.shape, network.name)
    batches = (torch.from_numpy(batch) for batch in inputs.images.batches(1))
    bits = bind(inputs.policy, cost.layer_names(graph))
    return quantize_network(graph, bits, collect(graph, batches), QuantizeOptions())


@click.command()
@click.option("--targets", default="native,x86-64-v4-vnni", show_default=True)
@click.option("--threads", default="1,2", show_default=True)
def main(targets: str, threads: str) -> None:
    """Tune every example for every target and number of threads."""
    for policy in sorted(EXAMPLES.glob("*.json")):
        graph = quantized(policy)
        for name in targets.split(","):
            for count in map(int, threads.split(",")):
                tuning = Tuning(TuningLevel.QUICK, count, SHIPPED)
                measured: list[str] = []
                with tempfile.TemporaryDirectory() as folder:
                    choose = tuned(tuning, measured.append)
                    build(graph, find(name), Path(folder), choose)
                print(f"{policy.stem} {name} {count} threads: {len(measured)} layers", flush=True)


if __name__ == "__main__":
    main()
