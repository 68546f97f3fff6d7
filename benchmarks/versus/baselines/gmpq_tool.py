"""The program of gmpq: compiled for the target, and compared with the reference."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import click
import numpy as np

from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import LIBRARY
from gmpq.backends.tvm.plan.plan import PlanOptions
from gmpq.backends.tvm.tuning.tune import Tuning, tuned
from gmpq.ir import IntGraph
from gmpq.runtime import Network
from versus.bench import Bench
from versus.entry import Compiled, Entry
from versus.names import GMPQ

TIMES = "kernels.json"


def open_gmpq(bench: Bench, graph: IntGraph, variant: str, threads: int) -> Entry:
    """Return the compiled program of ``graph``.

    Raises:
        TargetError: the target is unknown, or its C compiler is missing.
    """
    compiled = compile_gmpq(bench, graph, threads)
    network, image = compiled.network, bench.subject.image
    kernels = Counter(step.kernel for step in network.steps)
    return Entry(
        GMPQ,
        variant,
        lambda: network.run(image),
        ", ".join(f"{count} {name}" for name, count in kernels.most_common()),
        is_exact(graph, network, image),
        compiled,
    )


def compile_gmpq(bench: Bench, graph: IntGraph, threads: int) -> Compiled:
    """Return the program of ``graph``, ready to run on ``threads`` threads.

    Raises:
        TargetError: the target is unknown, or its C compiler is missing.
    """
    directory = Path(tempfile.mkdtemp(prefix="gmpq-", dir=bench.scratch))
    tuning = Tuning(bench.tune, threads, bench.cache / TIMES)
    choose = tuned(tuning, lambda layer: click.echo(f"tuning {layer}", err=True))
    options = PlanOptions(threads=threads)
    built = build(graph, targets.find(bench.target), directory, choose, options=options)
    network = Network(directory, built.program)
    network.set_threads(threads)
    return Compiled(graph, built, network, directory / LIBRARY)


def is_exact(graph: IntGraph, network: Network, image: Tensor) -> bool:
    """Return whether the outputs, and every value that the program stores, equal the reference.

    Values that fusion has left in registers are not stored; they show in what is made of them.
    """
    expected = reference.run(graph, {graph.inputs[0]: image})
    stored = list(network.trace(image))
    outputs = network.run(image)
    found = zip(graph.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True)
    return all(np.array_equal(tensor, expected[name]) for name, tensor in (*stored, *found))
