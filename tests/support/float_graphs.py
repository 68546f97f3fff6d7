"""Float graphs for the tests of passes: random ones from a seed, and a builder of named ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq.backends.torch_float import run_float
from gmpq.calib.collect import collect
from gmpq.calib.statistics import Statistics
from gmpq.ir import (
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
    Graph,
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
    Value,
    Window,
)
from gmpq.policy import LayerBits

RELU = Clamp(0.0, inf)
ONE = Padding(1, 1, 1, 1)

Choice = TypeVar("Choice")


@dataclass
class FloatDraft:
    """A float graph that grows by named nodes; every method returns its output's name."""

    shape: Shape = (1, 3, 9, 8)
    seed: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[FloatNode] = field(default_factory=list)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.values["input"] = Value("input", self.shape)

    def graph(self, *outputs: str) -> FloatGraph:
        return Graph("net", ("input",), outputs, dict(self.values), tuple(self.nodes))

    def write(self, node: FloatNode, shape: Shape) -> str:
        assert node.name not in self.values
        self.values[node.name] = Value(node.name, shape)
        self.nodes.append(replace(node, output=node.name))
        return node.name

    def shape_of(self, x: str) -> Shape:
        return self.values[x].shape

    # --- layers

    def conv(
        self,
        name: str,
        x: str,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        auxiliary: bool = False,
    ) -> str:
        batch, channels, height, width = self.shape_of(x)
        side = (kernel - 1) // 2
        window = Window((kernel, kernel), (stride, stride), Padding(side, side, side, side))
        shape = (outputs, channels // groups, kernel, kernel)
        spread = self.rng.uniform(0.5, 1.5, (outputs, 1, 1, 1)) / np.sqrt(np.prod(shape[1:]))
        weight = (self.rng.normal(0, 1, shape) * spread).astype(np.float32)
        bias = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        node = FloatConv2d(name, (x,), "", weight, bias, window, groups, auxiliary)
        return self.write(node, (batch, outputs, *window.output_size(height, width)))

    def linear(self, name: str, x: str, outputs: int) -> str:
        batch, features = self.shape_of(x)
        weight = self.rng.normal(0, 1 / np.sqrt(features), (outputs, features)).astype(np.float32)
        bias = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        return self.write(FloatLinear(name, (x,), "", weight, bias), (batch, outputs))

    def act(self, name: str, x: str, function: Function) -> str:
        return self.write(Activation(name, (x,), "", function), self.shape_of(x))

    # --- everything else

    def add(self, name: str, a: str, b: str) -> str:
        return self.write(Add(name, (a, b), ""), self.shape_of(a))

    def multiply(self, name: str, a: str, b: str) -> str:
        return self.write(Multiply(name, (a, b), ""), self.shape_of(a))

    def concat(self, name: str, *parts: str) -> str:
        batch, _, *rest = self.shape_of(parts[0])
        channels = sum(self.shape_of(part)[1] for part in parts)
        return self.write(Concat(name, parts, ""), (batch, channels, *rest))

    def max_pool(self, name: str, x: str) -> str:
        window = Window((3, 3), (2, 2), ONE)
        return self.write(MaxPool(name, (x,), "", window), self._slid(x, window))

    def avg_pool(self, name: str, x: str) -> str:
        window = Window((2, 2), (1, 1), Padding(0, 0, 1, 1))
        return self.write(AvgPool(name, (x,), "", window, Padding()), self._slid(x, window))

    def mean(self, name: str, x: str) -> str:
        return self.write(GlobalAvgPool(name, (x,), ""), (*self.shape_of(x)[:2], 1, 1))

    def pad(self, name: str, x: str) -> str:
        batch, channels, height, width = self.shape_of(x)
        padding = Padding(0, 1, 1, 0)
        return self.write(Pad(name, (x,), "", padding), (batch, channels, height + 1, width + 1))

    def upsample(self, name: str, x: str) -> str:
        batch, channels, height, width = self.shape_of(x)
        shape = (batch, channels, height * 2, width)
        return self.write(Upsample(name, (x,), "", (2, 1)), shape)

    def flatten(self, name: str, x: str) -> str:
        shape = self.shape_of(x)
        return self.write(Reshape(name, (x,), ""), (shape[0], int(np.prod(shape[1:]))))

    def softmax(self, name: str, x: str) -> str:
        return self.write(Softmax(name, (x,), ""), self.shape_of(x))

    def _slid(self, x: str, window: Window) -> Shape:
        batch, channels, height, width = self.shape_of(x)
        return (batch, channels, *window.output_size(height, width))

    # --- random steps

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.rng.integers(len(choices)))]

    def function(self, channels: int) -> Function:
        slopes = self.rng.uniform(0, 0.5, channels).astype(np.float32)
        return self.pick(
            (
                *(RELU, RELU, RELU, Clamp(0.0, 6.0), Clamp(-1.0, 1.0), Clamp(0.25, 2.0)),
                *(LeakyRelu(0.1), PRelu(slopes), Silu(), HardSwish(), Sigmoid()),
            )
        )

    def layer(self, name: str, x: str, outputs: int, stride: int = 1) -> str:
        """Return a random convolution, mostly with an activation."""
        channels = self.shape_of(x)[1]
        groups = self.pick([g for g in range(1, channels + 1) if not (channels % g or outputs % g)])
        groups, kernel = self.pick((1, groups)), self.pick((1, 3))
        auxiliary = bool(self.rng.random() < 0.1)
        y = self.conv(
            name, x, outputs, kernel=kernel, stride=stride, groups=groups, auxiliary=auxiliary
        )
        return self.act(f"{name}.act", y, self.function(outputs)) if self.rng.random() < 0.7 else y

    def step(self, name: str, x: str) -> str:
        """Return one random step on an image."""
        channels = self.shape_of(x)[1]
        if self.rng.random() < 0.3:
            return self.layer(name, x, self.pick((3, 4, 8)), self.pick((1, 2)))
        steps: tuple[Callable[[str, str], str], ...] = (
            *(self.residual, self.residual, self.branches, self.branches, self.gate),
            *(self.max_pool, self.avg_pool, self.pad, self.upsample),
            lambda name, x: self.act(name, x, self.function(channels)),
        )
        return self.pick(steps)(name, x)

    def residual(self, name: str, x: str) -> str:
        y = self.add(name, self.layer(f"{name}.branch", x, self.shape_of(x)[1]), x)
        return self.act(f"{name}.act", y, RELU) if self.rng.random() < 0.5 else y

    def gate(self, name: str, x: str) -> str:
        """Return ``x`` gated by its means, as by squeeze and excitation."""
        pooled = self.layer(f"{name}.gate", self.mean(f"{name}.mean", x), self.shape_of(x)[1])
        return self.multiply(name, x, self.act(f"{name}.sigmoid", pooled, Sigmoid()))

    def branches(self, name: str, x: str) -> str:
        parts = [self.layer(f"{name}.{i}", x, self.pick((2, 3))) for i in range(2)]
        return self.concat(name, *parts, *([x] if self.rng.random() < 0.5 else []))


def random_float_graph(seed: int, steps: int) -> FloatGraph:
    """Return a classifier of random steps; some have more outputs, joined ones, or a softmax."""
    draft = FloatDraft(seed=seed)
    x, images = "input", ["input"]
    for step in range(steps):
        x = draft.step(f"s{step}", x)
        images.append(x)
    pooled = draft.mean("mean", x) if draft.rng.random() < 0.5 else x
    outputs = [draft.linear("fc", draft.flatten("flatten", pooled), 5)]
    if draft.rng.random() < 0.2:
        outputs = [draft.softmax("softmax", outputs[0])]
    if draft.rng.random() < 0.2:
        outputs.append(draft.pick(images[1:]))
    if draft.rng.random() < 0.3:
        parts = (
            draft.conv("boxes", x, 3),
            draft.act("scores", draft.conv("logits", x, 2), Sigmoid()),
        )
        outputs.append(draft.flatten("joined.flat", draft.concat("joined", *parts)))
    return draft.graph(*outputs)


def layer_names(graph: FloatGraph) -> list[str]:
    return [
        node.name
        for node in graph.nodes
        if isinstance(node, FloatLinear) or (isinstance(node, FloatConv2d) and not node.auxiliary)
    ]


def uniform(graph: FloatGraph, w: int, a: int) -> dict[str, LayerBits]:
    return {name: LayerBits(w, a) for name in layer_names(graph)}


def random_bits(graph: FloatGraph, seed: int) -> dict[str, LayerBits]:
    rng = np.random.default_rng(seed)
    return {name: LayerBits(*rng.integers(1, 9, 2).tolist()) for name in layer_names(graph)}


def images(shape: Shape, count: int, seed: int = 0) -> torch.Tensor:
    """Return images of mean 0.5 [count, C, H, W]."""
    return torch.randn(count, *shape[1:], generator=torch.Generator().manual_seed(seed)) + 0.5


def statistics_of(graph: FloatGraph, count: int = 8, seed: int = 0) -> dict[str, Statistics]:
    return collect(graph, images(graph.values["input"].shape, count, seed).split(4))


def float_values(graph: FloatGraph, x: torch.Tensor) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in run_float(graph, {"input": x})}
