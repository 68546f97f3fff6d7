"""The float graph in torch: what calibration runs, and what lowering is tested by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gmpq.ir import (
    NO_PADDING,
    Activation,
    Add,
    AvgPool,
    Clamp,
    Concat,
    FloatConv2d,
    FloatGraph,
    FloatLinear,
    FloatNode,
    Function,
    GlobalAvgPool,
    HardSwish,
    LeakyRelu,
    MaxPool,
    Multiply,
    Pad,
    Padding,
    PRelu,
    Reshape,
    Shape,
    Sigmoid,
    Silu,
    Softmax,
    Upsample,
)


def run_float(
    graph: FloatGraph, tensors: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every value of ``graph`` in execution order, the inputs first.

    A tensor is released after its last reader, so a caller that keeps none needs the memory of the
    widest place only. ``tensors`` are the inputs, float32 [N, C, H, W] with any N.
    """
    alive = dict(tensors)
    yield from tensors.items()
    last_reader = {name: node.output for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        inputs = [alive[name] for name in node.inputs]
        with torch.no_grad():
            result = compute(node, inputs, graph.values[node.output].shape)
        alive[node.output] = result
        yield node.output, result
        for name in set(node.inputs):
            if last_reader[name] == node.output:
                del alive[name]


def run_outputs(graph: FloatGraph, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return the outputs of ``graph`` by position for ``images`` [N, C, H, W] of its one input."""
    (source,) = graph.inputs
    kept = {
        name: value.numpy()
        for name, value in run_float(graph, {source: torch.from_numpy(images)})
        if name in graph.outputs
    }
    return tuple(kept[name] for name in graph.outputs)


def rerun(
    graph: FloatGraph, values: Mapping[str, torch.Tensor], changed: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the changed values, and those that depend on them, computed again.

    Args:
        graph: the network.
        values: all values of ``graph`` by name, float32 [N, ...].
        changed: values to put in their place, by name, in the same shapes.
    """
    found = dict(changed)
    for node in graph.nodes:
        if node.output not in changed and any(name in found for name in node.inputs):
            inputs = [found.get(name, values[name]) for name in node.inputs]
            found[node.output] = compute(node, inputs, graph.values[node.output].shape)
    return found


def compute(node: FloatNode, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    """Return the output of one node for float32 inputs [N, ...].

    ``shape`` is the graph's shape of the output; a reshape takes all but N from it.
    """
    x = inputs[0]
    match node:
        case FloatConv2d():
            return _convolve(node, x)
        case FloatLinear():
            return functional.linear(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias))
        case Activation():
            return apply(node.function, x)
        case Add():
            return x + inputs[1]
        case Multiply():
            return x * inputs[1]
        case Concat():
            return torch.cat(inputs, 1)
        case MaxPool(window=window):
            padded = _pad(x, window.padding, -torch.inf)
            return functional.max_pool2d(padded, window.kernel, window.stride, 0, window.dilation)
        case AvgPool():
            return _average(node, x)
        case GlobalAvgPool():
            return x.mean((2, 3), keepdim=True)
        case Pad(padding=padding):
            return _pad(x, padding, 0.0)
        case Reshape():
            return x.reshape(x.shape[0], *shape[1:])
        case Upsample(factors=(rows, columns)):
            return x.repeat_interleave(rows, 2).repeat_interleave(columns, 3)
        case Softmax():
            return x.softmax(1)
        case _:
            assert_never(node)


def apply(function: Function, x: torch.Tensor) -> torch.Tensor:
    """Return ``function`` of every element of ``x`` [N, C, ...]; PRelu has a slope per channel."""
    match function:
        case Clamp(low=low, high=high):
            return x.clamp(low, high)
        case LeakyRelu(slope=slope):
            return functional.leaky_relu(x, slope)
        case PRelu(slopes=slopes):
            return functional.prelu(x, torch.from_numpy(slopes).to(x))
        case Silu():
            return functional.silu(x)
        case HardSwish():
            return functional.hardswish(x)
        case Sigmoid():
            return x.sigmoid()
        case _:
            assert_never(function)


def _convolve(node: FloatConv2d, x: torch.Tensor) -> torch.Tensor:
    window = node.window
    top, left, bottom, right = window.padding
    even = (top, left) == (bottom, right)
    return functional.conv2d(
        x if even else _pad(x, window.padding, 0.0),
        torch.from_numpy(node.weight),
        torch.from_numpy(node.bias),
        window.stride,
        (top, left) if even else 0,
        window.dilation,
        node.groups,
    )


def _average(node: AvgPool, x: torch.Tensor) -> torch.Tensor:
    kernel, stride = node.window.kernel, node.window.stride
    if node.window.padding == NO_PADDING:
        return functional.avg_pool2d(x, kernel, stride)
    padding = node.window.padding
    beyond = Padding(*(all_ - counted for all_, counted in zip(padding, node.counted, strict=True)))
    ones = _pad(x.new_ones(1, 1, *x.shape[2:]), node.counted, 1.0)
    counts = functional.avg_pool2d(_pad(ones, beyond, 0.0), kernel, stride, divisor_override=1)
    sums = functional.avg_pool2d(_pad(x, padding, 0.0), kernel, stride, divisor_override=1)
    return sums / counts


def _pad(x: torch.Tensor, padding: Padding, fill: float) -> torch.Tensor:
    if padding == NO_PADDING:
        return x
    sides = [padding.left, padding.right, padding.top, padding.bottom]
    return functional.pad(x, sides, value=fill)
