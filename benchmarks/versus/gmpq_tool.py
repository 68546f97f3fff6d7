"""The program of gmpq: compiled for the target, and compared with the reference."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.tvm import target
from gmpq.backends.tvm.build import build
from gmpq.ir import IntGraph
from gmpq.runtime import Network
from versus.bench import Bench
from versus.contender import Contender
from versus.tools import GMPQ


def open_gmpq(bench: Bench, graph: IntGraph, variant: str, threads: int) -> Contender:
    """Return the compiled program of ``graph``.

    Raises:
        TargetError: the target is unknown, or its C compiler is missing.
    """
    directory = Path(tempfile.mkdtemp(prefix="gmpq-", dir=bench.scratch))
    network = Network(directory, build(graph, target.find(bench.target), directory).program)
    network.set_threads(threads)
    image = bench.subject.image
    kernels = Counter(step.kernel for step in network.steps)
    return Contender(
        GMPQ,
        variant,
        lambda: network.run(image),
        ", ".join(f"{count} {name}" for name, count in kernels.most_common()),
        is_exact(graph, network, image),
    )


def is_exact(graph: IntGraph, network: Network, image: Tensor) -> bool:
    """Tell whether every value of the program equals the reference."""
    expected = reference.run(graph, {graph.inputs[0]: image})
    traced = dict(network.trace(image))
    codes = {name for name, value in graph.values.items() if value.q is not None}
    return codes <= traced.keys() and all(
        np.array_equal(found, expected[name]) for name, found in traced.items()
    )
