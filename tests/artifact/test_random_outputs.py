"""Random networks whose outputs repeat, nest, join and come from the middle, compiled and run.

``gmpq.runtime`` and a plain session of onnxruntime are judged by torch in real numbers, which tells
swapped, unwritten and forgotten outputs from right ones, and by the reference, bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.ort.session import open_session
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import native
from gmpq.calib.collect import collect
from gmpq.export.onnx import serialize, to_onnx
from gmpq.ir import FloatGraph, IntGraph, Softmax
from gmpq.lower import lower
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.runtime import Network
from tests.support.float_graphs import uniform
from tests.support.networks import randomized

SHAPE = (2, 3, 6, 5)
SEEDS = range(40)
LEAST_DB = 20.0  # of signal to quantization noise at 8 bits; a wrong output has about 0

Recipe: TypeAlias = Any  # a nest of dicts, lists and tuples whose leaves are Leaf


class Leaf(tuple[str, int, int]):
    """How one output is made: of which values, by what."""

    __slots__ = ()


class Several(nn.Module):
    """A chain of layers; ``recipe`` says what is returned of the values between them."""

    def __init__(self, layers: list[nn.Module], recipe: Recipe) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.recipe = recipe

    def forward(self, x: torch.Tensor) -> object:
        values = [x]
        for layer in self.layers:
            values.append(layer(values[-1]))
        return _cooked(self.recipe, values)


def _cooked(recipe: Recipe, values: list[torch.Tensor]) -> object:
    match recipe:
        case Leaf():
            return _leaf(recipe, values)
        case dict():
            return {key: _cooked(part, values) for key, part in recipe.items()}
        case list():
            return [_cooked(part, values) for part in recipe]
        case _:
            return tuple(_cooked(part, values) for part in recipe)


def _leaf(leaf: Leaf, values: list[torch.Tensor]) -> torch.Tensor:
    kind, first, second = leaf
    x = values[first]
    match kind:
        case "dropout":
            return functional.dropout(x, training=False)
        case "softmax":
            return x.softmax(1)
        case "flat":
            return x.flatten(1)
        case "joined":
            return torch.cat([x, values[second]], 1)
        case "sum":
            return x + x.relu()
        case "input":
            return values[0]
        case _:
            return x


def drawn_recipe(draw: random.Random, count: int, depth: int = 0) -> Recipe:
    """Return a random nest of outputs of ``count`` values; values repeat."""
    if (depth and draw.random() < 0.6) or depth == 3:
        kinds = ("value", "value", "input", "dropout", "softmax", "flat", "joined", "sum")
        return Leaf((draw.choice(kinds), draw.randrange(1, count), draw.randrange(count)))
    parts = [drawn_recipe(draw, count, depth + 1) for _ in range(draw.randrange(1, 4))]
    if draw.random() < 0.5:
        parts.append(draw.choice(parts))
    if depth == 0:
        parts.append(Leaf(("value", count - 1, 0)))
    keys = draw.sample(("out", "aux", "0", "layers.0", "a/b", "x-1"), len(parts))
    return draw.choice((parts, tuple(parts), dict(zip(keys, parts, strict=True))))


def drawn(seed: int) -> Several:
    """Return a random network of small layers that keep the size of the image."""
    draw = random.Random(seed)
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(draw.randrange(2, 5)):
        outputs = draw.choice((2, 3, 5))
        layer = nn.Conv2d(channels, outputs, draw.choice((1, 3)), padding="same")
        functions = (nn.ReLU(), nn.Identity(), nn.Sigmoid(), nn.MaxPool2d(3, 1, 1))
        layers.append(nn.Sequential(layer, draw.choice(functions)))
        channels = outputs
    recipe = drawn_recipe(draw, len(layers) + 1)
    network = randomized(Several(layers, recipe), (1, *SHAPE[1:]), seed)
    assert isinstance(network, Several)
    return network


def leaves(result: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors in what a module returned, with the names that are documented."""
    match result:
        case dict():
            for key, part in result.items():
                yield from leaves(part, f"{name}.{key}" if name else key)
        case list() | tuple():
            for index, part in enumerate(result):
                yield from leaves(part, f"{name or 'output'}.{index}")
        case torch.Tensor():
            yield name, result


def quantized(graph: FloatGraph, images: torch.Tensor) -> IntGraph:
    statistics = collect(graph, [images])
    return quantize_network(graph, uniform(graph, 8, 8), statistics, QuantizeOptions())


def check(
    graph: IntGraph,
    found: list[tuple[str, Tensor]],
    exact: dict[str, Tensor],
    real: list[tuple[str, Tensor]],
) -> None:
    """Pass what a program returned, if it is the reference's, and near to torch's.

    ``real`` holds torch's outputs for all calibration images, the program's come first.
    """
    assert [name for name, _ in found] == [name for name, _ in real]
    for (name, got), (_, want) in zip(found, real, strict=True):
        assert decibels(want, got) > LEAST_DB, name
        if isinstance(graph.producer(name), Softmax):
            np.testing.assert_allclose(got, exact[name], rtol=0, atol=2e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(got.view(np.uint32), exact[name].view(np.uint32), name)


def decibels(want: Tensor, got: Tensor) -> float:
    """Return the signal of all images in ``want`` to the noise of those in ``got``."""
    noise = float(np.square(want[: len(got)].astype(np.float64) - got).mean())
    return float(10 * np.log10(np.square(want).mean() / max(noise, 1e-30)))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_output_of_random_networks_is_written(seed: int, tmp_path: Path) -> None:
    module = drawn(seed)
    images = torch.randn((8, *SHAPE[1:]), generator=torch.Generator().manual_seed(seed))
    image = images[: SHAPE[0]]
    with torch.inference_mode():
        real = [(name, tensor.numpy()) for name, tensor in leaves(module(images))]
    graph = quantized(lower(module, SHAPE, "net"), images)
    inputs = {"input": image.numpy()}
    exact = reference.run(graph, inputs)
    session = open_session(serialize(to_onnx(graph)))
    names = [output.name for output in session.get_outputs()]
    check(graph, list(zip(names, session.run(None, inputs), strict=True)), exact, real)
    program = build(graph, native(), tmp_path).program
    check(graph, Network(tmp_path, program).run_checked(inputs["input"]), exact, real)
