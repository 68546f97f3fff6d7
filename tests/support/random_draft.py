"""The random draft of an integer graph: its values, nodes, and dice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from gmpq.ir import (
    Dequantize,
    Graph,
    IntGraph,
    Node,
    Padding,
    QParams,
    Quantize,
    Shape,
    Softmax,
    Value,
    Window,
)

Choice = TypeVar("Choice")

CHANNELS = (1, 3, 5, 17, 24, 40)


@dataclass
class Draft:
    """A graph that grows by one random step at a time."""

    rng: np.random.Generator
    exact: bool
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def start(self) -> Value:
        """Add the input and its Quantize, and return its codes."""
        channels, batch = self.pick(CHANNELS), self.pick((1, 1, 2, 3))
        shape = (batch, channels, self.between(1, 11), self.between(1, 11))
        self.values["x"] = Value("x", shape)
        value = self.value(shape, self.encoding())
        self.nodes.append(Quantize(value.name, ("x",), value.name))
        return value

    def finish(self, value: Value, name: str) -> IntGraph:
        """Return the graph with the float32 ``value`` as output, sometimes after a softmax.

        Sometimes there is a second output, of any codes.
        """
        outputs = [value.name]
        if not self.exact and self.chance(0.2):
            outputs = [self.write(Softmax("", (value.name,), ""), value.shape, None).name]
        if self.chance(0.2):
            other = self.pick([v for v in self.values.values() if v.q is not None])
            outputs.append(self.dequantize(other).name)
        return Graph(name, ("x",), tuple(outputs), dict(self.values), tuple(self.nodes))

    def dequantize(self, value: Value) -> Value:
        """Add a Dequantize and return its output."""
        return self.write(Dequantize("", (value.name,), ""), value.shape, None)

    def window(self, shape: Shape, *, dilated: bool) -> Window:
        """Return a window, uneven padding included, that fits an image of ``shape``."""
        while True:
            kernel = (self.pick((1, 2, 3, 3, 5)), self.pick((1, 2, 3, 3, 5)))
            stride = (self.pick((1, 1, 2, 3)), self.pick((1, 1, 2, 3)))
            dilation = (self.pick((1, 1, 2)), self.pick((1, 1, 2))) if dilated else (1, 1)
            top, left = self.between(0, kernel[0] - 1), self.between(0, kernel[1] - 1)
            bottom, right = self.between(0, kernel[0] - 1), self.between(0, kernel[1] - 1)
            window = Window(kernel, stride, Padding(top, left, bottom, right), dilation)
            if min(window.output_size(*shape[2:])) > 0:
                return window

    def encoding(self, bits: int | None = None) -> QParams:
        """Return random parameters: any zero point, often clipped as by a ReLU or ReLU6."""
        bits = bits or self.between(1, 8)
        q = QParams.full(np.exp(self.rng.uniform(np.log(0.003), np.log(0.3))), 0, bits)
        q = replace(q, zero_point=self.pick((0, (q.maximum + 1) // 2, self.between(0, q.maximum))))
        match self.pick(("full", "full", "relu", "relu6", "any")):
            case "relu":
                return replace(q, low=q.zero_point)
            case "relu6":
                return replace(q, low=q.zero_point, high=self.between(q.zero_point, q.maximum))
            case "any":
                low = self.between(0, q.maximum)
                return replace(q, low=low, high=self.between(low, q.maximum))
            case _:
                return q

    def write(self, node: Node, shape: Shape, q: QParams | None) -> Value:
        """Add ``node`` under a fresh name and return its output."""
        value = self.value(shape, q)
        self.nodes.append(replace(node, name=value.name, output=value.name))
        return value

    def value(self, shape: Shape, q: QParams | None) -> Value:
        """Add a value with a fresh name."""
        value = Value(f"v{len(self.values)}", tuple(map(int, shape)), q)
        self.values[value.name] = value
        return value

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Return one of ``choices``."""
        return choices[int(self.rng.integers(len(choices)))]

    def between(self, low: int, high: int) -> int:
        """Return an int from ``low`` to ``high``, both possible."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return bool(self.rng.random() < probability)
