"""Networks of one depthwise convolution of random weights."""

from __future__ import annotations

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.base import Site, Tensor
from gmpq.backends.tvm.kernels.layout import layouts
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.target.cpu import RULES, CpuTarget
from gmpq.ir import (
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Value,
    Window,
)
from gmpq.numerics import weight_limits


def layer(
    rng: np.random.Generator, window: Window, size: tuple[int, int, int], most: int = 8
) -> IntGraph:
    """Return quantize, a depthwise convolution of random bits up to ``most``, dequantize."""
    channels, *space = size
    bits, weight_bits = (int(n) for n in rng.integers(1, most + 1, 2))
    low, high = weight_limits(weight_bits)
    codes = rng.integers(low, high + 1, (channels, 1, *window.kernel)).astype(np.int8)
    spread = rng.uniform(20, 200, channels) / (1 << bits) / high
    bias = rng.integers(-99, 99, channels).astype(np.int32)
    weight = QWeight(codes, spread.astype(np.float32), bias, weight_bits)
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits)), bits)
    narrow = QParams(1.0, 40, 8, 30, 200)
    y = narrow if rng.random() < 0.3 else QParams.full(1.0, int(rng.integers(0, 2)) * 128, 8)
    batch = int(rng.integers(1, 3))
    values = (
        Value("image", (batch, channels, *space)),
        Value("x", (batch, channels, *space), q),
        Value("y", (batch, channels, *window.output_size(*space)), y),
        Value("real", (batch, channels, *window.output_size(*space))),
    )
    node = Conv2d("conv", ("x",), "y", weight, window, channels)
    io = Quantize("quantize", ("image",), "x"), Dequantize("dequantize", ("y",), "real")
    return Graph("g", ("image",), ("real",), {v.name: v for v in values}, (io[0], node, io[1]))


WINDOWS = [
    pytest.param(Window((3, 3), padding=Padding(1, 1, 1, 1)), id="3x3"),
    pytest.param(Window((3, 3), (2, 2), Padding(1, 1, 1, 1)), id="3x3-stride-2"),
    pytest.param(Window((5, 5), padding=Padding(2, 2, 2, 2)), id="5x5"),
    pytest.param(Window((5, 5), (2, 2), Padding(1, 1, 2, 2)), id="5x5-stride-2"),
    pytest.param(Window((3, 3), (1, 1), Padding(2, 2, 2, 2), (2, 2)), id="3x3-dilated"),
    pytest.param(Window((2, 7), (3, 1), Padding(0, 3, 0, 2)), id="2x7"),
    pytest.param(Window((1, 1)), id="1x1"),
]


def site_of(graph: IntGraph, target: str) -> Site[CpuTarget]:
    """Return the convolution's site."""
    placed = layouts(graph, RULES)
    x, y = (Tensor(graph.values[name], placed[name]) for name in ("x", "y"))
    return Site(graph.nodes[1], (x,), y, find(target))
