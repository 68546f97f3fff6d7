"""Layers whose input other nodes read too, so that it lies as values between layers do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gmpq.backends.tvm.codegen.cuda_compiler import can_compile
from gmpq.backends.tvm.emulation.cuda.library import missing
from gmpq.ir import Conv2d, Dequantize, IntGraph, Padding, QParams, Value, Window
from tests.support.single_layers import network_of, random_weight

WHY_NOT = missing() or (None if can_compile() else "no compiler of CUDA C is installed")
emulated = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
CHANNELS = (1, 3, 17, 32, 45, 64, 96, 130)


def shown(graph: IntGraph) -> IntGraph:
    """Return ``graph`` with the value ``x`` dequantized into one more output."""
    values = {**graph.values, "seen": Value("seen", graph.values["x"].shape)}
    nodes = (*graph.nodes, Dequantize("show", ("x",), "seen"))
    return replace(graph, outputs=(*graph.outputs, "seen"), values=values, nodes=nodes)


def random_layer(rng: np.random.Generator, bits: tuple[int, int], groups: int = 1) -> IntGraph:
    """Return a convolution of random shape, with ``bits`` of its codes and of its weights."""
    inputs, outputs = (int(n) * groups for n in rng.choice(CHANNELS, 2))
    kernel = (int(rng.choice([1, 2, 3, 5])), int(rng.choice([1, 3, 4])))
    window = Window(
        kernel,
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        Padding(*(int(n) for n in rng.integers(0, 3, 4))),
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
    )
    size = (int(rng.integers(9, 13)), int(rng.integers(9, 13)))
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits[0])), bits[0])
    weight = random_weight(rng, (outputs, inputs // groups, *kernel), bits[1])
    node = Conv2d("conv", ("x",), "y", weight, window, groups)
    return shown(network_of(node, q, size, int(rng.integers(1, 4))))
