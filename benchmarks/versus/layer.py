"""Programs of one convolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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

SPREAD = 2.5  # standard deviations from zero to the largest of bell-shaped weights


class Layer(NamedTuple):
    """Sizes of a convolution."""

    size: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int

    def __str__(self) -> str:
        size, inputs, outputs, kernel, stride, groups = self
        return f"{size}x{size} {inputs}->{outputs} k{kernel} s{stride} g{groups}"

    @property
    def macs(self) -> int:
        """Multiplications and additions."""
        taps = self.inputs // self.groups * self.kernel * self.kernel
        pixels = -(-self.size // self.stride)
        return self.outputs * taps * pixels * pixels


def one_layer(
    layer: Layer, bits: int, *, bell: bool = False, code_bits: int | None = None
) -> IntGraph:
    """Return a graph of one convolution with random weights, uniform or bell-shaped.

    Codes have as many bits as weights, or ``code_bits``.
    """
    size, inputs, outputs, kernel, stride, groups = layer
    rng = np.random.default_rng(0)
    low, high = weight_limits(bits)
    shape = (outputs, inputs // groups, kernel, kernel)
    codes = rng.integers(low, high + 1, shape)
    if bell:
        codes = np.clip(rng.normal(0, high / SPREAD, shape).round(), low, high).astype(int)
    if bits == 1:
        codes = rng.choice((-1, 1), shape)
    spread = 1 / (high * np.sqrt(inputs // groups * kernel * kernel))
    scale = np.full(outputs, spread, np.float32)
    weight = QWeight(codes.astype(np.int8), scale, np.zeros(outputs, np.int32), bits)
    window = Window((kernel, kernel), (stride, stride), Padding(*[kernel // 2] * 4))
    rows, columns = window.output_size(size, size)
    q = QParams.full(1.0, 0, code_bits or bits)
    values = (
        Value("image", (1, inputs, size, size)),
        Value("x", (1, inputs, size, size), q),
        Value("y", (1, outputs, rows, columns), q),
        Value("real", (1, outputs, rows, columns)),
    )
    nodes = (
        Quantize("quantize", ("image",), "x"),
        Conv2d("conv", ("x",), "y", weight, window, groups),
        Dequantize("dequantize", ("y",), "real"),
    )
    return Graph("layer", ("image",), ("real",), {v.name: v for v in values}, nodes)
