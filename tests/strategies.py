"""Random legal integer graphs: a plain seeded generator, and hypothesis strategies over it.

Every value first gets its ``QParams``; a layer then gets weight scales that spread its accumulators
over the output's codes. So shared scales cost nothing, and codes saturate sometimes, not always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from gmpq import numerics, spec
from gmpq.backends import reference
from gmpq.backends.reference import Tensor
from gmpq.ir import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dequantize,
    Function,
    GlobalAvgPool,
    Graph,
    HardSwish,
    IntGraph,
    LeakyRelu,
    Linear,
    Lookup,
    MaxPool,
    Node,
    Pad,
    Padding,
    PRelu,
    QParams,
    Quantize,
    QWeight,
    Requantize,
    Reshape,
    Shape,
    Sigmoid,
    Silu,
    Softmax,
    Upsample,
    Value,
    Window,
)

Choice = TypeVar("Choice")

CHANNELS = (1, 3, 5, 17, 24, 40)
IMAGE_STEPS = ("conv", "conv", "conv", "max", "avg", "pad", "upsample", "add", "concat", "fold")
ANY_STEPS = ("lookup", "requantize", "add")
VECTOR_STEPS = ("linear", "linear", "lookup", "requantize", "add")


def graphs(most_steps: int = 8, *, exact: bool = False) -> st.SearchStrategy[IntGraph]:
    """Return a strategy of legal graphs of 1 to ``most_steps`` steps that shrinks to few steps."""
    return st.builds(
        lambda seed, steps: random_graph(seed, steps, exact=exact),
        st.integers(0, 2**32 - 1),
        st.integers(1, most_steps),
    )


def random_graph(seed: int, steps: int | None = None, *, exact: bool = False) -> IntGraph:
    """Return a legal graph of ``steps`` steps (else 1 to 8), each of one to three nodes.

    ``exact`` leaves out AvgPool and Softmax, which onnxruntime rounds differently.
    """
    draft = Draft(np.random.default_rng(seed), exact)
    count = steps if steps is not None else int(draft.rng.integers(1, 9))
    value = draft.start()
    for step in range(count):
        value = draft.step(value, last=step == count - 1)
    graph = draft.finish(value, f"random{seed}")
    spec.check(graph)
    return graph


def random_input(graph: IntGraph, seed: int) -> dict[str, Tensor]:
    """Return float32 inputs that reach every code of the first Quantize, exact ties, and beyond."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Tensor] = {}
    for name in graph.inputs:
        reader = graph.values[graph.consumers(name)[0].output]
        assert reader.q is not None
        q, shape = reader.q, reader.shape
        slack = 0.1 * q.maximum
        steps = rng.uniform(-slack, q.maximum + slack, shape)
        ties = np.floor(steps) + 0.5
        steps = np.where(rng.random(shape) < 0.1, ties, steps) - q.zero_point
        inputs[name] = steps.astype(np.float32) * np.float32(q.scale)
    return inputs


def random_codes(value: Value, rng: np.random.Generator) -> Tensor:
    """Return uint8 codes of ``value`` between its low and high."""
    assert value.q is not None
    codes: Tensor = rng.integers(value.q.low, value.q.high, value.shape, np.uint8, endpoint=True)
    return codes


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
        """Dequantize ``value``, sometimes with a second output and a softmax."""
        outputs = [self.dequantize(value)]
        if not self.exact and self.chance(0.2):
            softmax = self.value(value.shape, None)
            self.nodes.append(Softmax(softmax.name, (outputs[0],), softmax.name))
            outputs = [softmax.name]
        if self.chance(0.2):
            other = self.pick([v for v in self.values.values() if v.q is not None])
            outputs.append(self.dequantize(other))
        return Graph(name, ("x",), tuple(outputs), dict(self.values), tuple(self.nodes))

    def dequantize(self, value: Value) -> str:
        """Add a Dequantize and return its output's name."""
        output = self.value(value.shape, None)
        self.nodes.append(Dequantize(output.name, (value.name,), output.name))
        return output.name

    def step(self, x: Value, *, last: bool) -> Value:
        """Add one random step that reads ``x`` and return its output."""
        image = len(x.shape) == 4
        steps = (*IMAGE_STEPS, *ANY_STEPS) if image else VECTOR_STEPS
        kind = self.pick(steps)
        if image and last and self.chance(0.3):
            return self.classify(x)
        match kind:
            case "conv":
                return self.conv(x, self.encoding())
            case "linear":
                return self.linear(x, self.encoding())
            case "lookup":
                return self.lookup(x)
            case "requantize":
                return self.write(Requantize("", (x.name,), ""), x.shape, self.encoding())
            case "add":
                return self.residual(x)
            case "concat":
                return self.concat(x)
            case _:
                return self.move(x, kind)

    # --- steps with weights

    def conv(self, x: Value, q: QParams, window: Window | None = None) -> Value:
        """Add a convolution: plain, grouped, depthwise, or depthwise with a multiplier."""
        channels = x.shape[1]
        window = window or self.window(x.shape, dilated=True)
        groups = self.pick([g for g in range(1, channels + 1) if channels % g == 0])
        groups = self.pick((1, groups, channels))
        per_group = self.pick((1, 2, 3)) if groups > 1 else self.pick(CHANNELS)
        shape = (groups * per_group, channels // groups, *window.kernel)
        node = Conv2d("", (x.name,), "", self.weight(x, q, shape), window, groups)
        size = window.output_size(*x.shape[2:])
        return self.write(node, (x.shape[0], shape[0], *size), q)

    def linear(self, x: Value, q: QParams, features: int | None = None) -> Value:
        """Add a fully connected layer."""
        features = features or self.pick((*CHANNELS, 100))
        weight = self.weight(x, q, (features, x.shape[1]))
        return self.write(Linear("", (x.name,), "", weight), (x.shape[0], features), q)

    def weight(self, x: Value, q: QParams, shape: Shape) -> QWeight:
        """Return random codes, and scales that spread the accumulators over the codes of ``q``."""
        assert x.q is not None
        bits = self.between(1, 8)
        least = numerics.weight_limits(bits)[0] - self.pick((0, int(bits > 1)))
        codes = self.rng.integers(least, 1 << (bits - 1), shape).astype(np.int8)
        if bits == 1:
            codes = np.where(self.rng.random(shape) < 0.5, -1, 1).astype(np.int8)
        reals = np.arange(x.q.low, x.q.high + 1) - x.q.zero_point
        deviation = np.sqrt(np.mean(reals**2) * np.sum(codes.reshape(shape[0], -1) ** 2.0, 1)) + 1
        target = (q.high - q.low + 1) / 4 * self.rng.uniform(0.3, 1.5, shape[0])
        scale = target / deviation * q.scale / x.q.scale
        bias = np.rint(self.rng.normal(0, 0.7, shape[0]) * deviation)
        return QWeight(codes, scale.astype(np.float32), bias.astype(np.int32), bits)

    # --- steps of several nodes

    def residual(self, x: Value) -> Value:
        """Add two values at one scale: ``x`` where it has 8 bits, else its requantization."""
        q = self.encoding(bits=8)
        if x.q is not None and x.q.bits == 8 and self.chance(0.7):
            stream, q = x, replace(q, scale=x.q.scale)
        else:
            stream = self.write(Requantize("", (x.name,), ""), x.shape, q)
        branch = self.same_shape(x, replace(self.encoding(bits=8), scale=q.scale))
        inputs = (stream.name, branch.name) if self.chance(0.5) else (branch.name, stream.name)
        return self.write(
            Add("", inputs, ""), x.shape, replace(self.encoding(bits=8), scale=q.scale)
        )

    def same_shape(self, x: Value, q: QParams) -> Value:
        """Return ``x`` through a layer that keeps its shape."""
        if len(x.shape) == 2:
            return self.linear(x, q, x.shape[1])
        if x.shape[1] in CHANNELS and self.chance(0.5):
            window = Window((3, 3), padding=Padding(1, 1, 1, 1))
            weight = self.weight(x, q, (x.shape[1], 1, 3, 3))
            return self.write(Conv2d("", (x.name,), "", weight, window, x.shape[1]), x.shape, q)
        weight = self.weight(x, q, (x.shape[1], x.shape[1], 1, 1))
        return self.write(Conv2d("", (x.name,), "", weight, Window((1, 1))), x.shape, q)

    def concat(self, x: Value) -> Value:
        """Join two or three values of one encoding along the channels."""
        q = self.encoding()
        window = self.window(x.shape, dilated=False)
        parts = [self.conv(x, q, window) for _ in range(self.between(1, 2))]
        if window.output_size(*x.shape[2:]) == x.shape[2:]:
            parts.append(self.write(Requantize("", (x.name,), ""), x.shape, q))
        channels = sum(part.shape[1] for part in parts)
        shape = (x.shape[0], channels, *parts[0].shape[2:])
        return self.write(Concat("", tuple(part.name for part in parts), ""), shape, q)

    def classify(self, x: Value) -> Value:
        """End as classifiers do: pool over space or not, flatten, fully connected."""
        if self.chance(0.5):
            shape = (*x.shape[:2], 1, 1)
            x = self.write(GlobalAvgPool("", (x.name,), ""), shape, self.encoding())
        shape = (x.shape[0], int(np.prod(x.shape[1:])))
        x = self.write(Reshape("", (x.name,), ""), shape, x.q)
        return self.linear(x, self.encoding())

    # --- steps without weights

    def lookup(self, x: Value) -> Value:
        """Add a table of a real function, or of noise per channel."""
        q = self.encoding()
        functions: tuple[Function, ...] = (
            LeakyRelu(0.1),
            Silu(),
            HardSwish(),
            Sigmoid(),
            Clamp(0.0, float("inf")),
        )
        function: Function = self.pick(functions)
        table = self.rng.integers(q.low, q.high, 256, np.uint8, endpoint=True)
        if self.chance(0.4):
            function = PRelu(self.rng.uniform(0, 1, x.shape[1]).astype(np.float32))
            shape = (x.shape[1], 256)
            table = self.rng.integers(q.low, q.high, shape, np.uint8, endpoint=True)
        return self.write(Lookup("", (x.name,), "", table, function), x.shape, q)

    def move(self, x: Value, kind: str) -> Value:
        """Add a pool, padding, enlargement or reshape of an image."""
        batch, channels, height, width = x.shape
        window = self.window(x.shape, dilated=kind == "max")
        shape = (batch, channels, *window.output_size(height, width))
        if kind == "max" and _sees_everywhere(window, (height, width)):
            return self.write(MaxPool("", (x.name,), "", window), shape, x.q)
        if kind == "avg" and not self.exact and _sees_everywhere(window, (height, width)):
            counted = window.padding if self.chance(0.5) else Padding()
            node = AvgPool("", (x.name,), "", window, counted)
            return self.write(node, shape, self.encoding())
        if kind == "pad" and x.q is not None and x.q.low <= x.q.zero_point <= x.q.high:
            top, left, bottom, right = padding = Padding(*self.rng.integers(0, 3, 4).tolist())
            shape = (batch, channels, height + top + bottom, width + left + right)
            return self.write(Pad("", (x.name,), "", padding), shape, x.q)
        if kind == "upsample" and height * width < 150:
            rows, columns = self.between(1, 3), self.between(1, 3)
            shape = (batch, channels, height * rows, width * columns)
            return self.write(Upsample("", (x.name,), "", (rows, columns)), shape, x.q)
        shape = (batch, channels * height, width, 1)
        return self.write(Reshape("", (x.name,), ""), shape, x.q)

    # --- pieces

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


def _sees_everywhere(window: Window, size: tuple[int, int]) -> bool:
    """Tell whether no window lies in the padding alone."""
    pool = AvgPool("", ("",), "", window, Padding())
    return bool(reference.divisors(size, pool).min() > 0)
