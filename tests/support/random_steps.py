"""Random steps that a draft of an integer graph grows by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gmpq import numerics
from gmpq.backends import reference
from gmpq.ir import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Function,
    GlobalAvgPool,
    HardSwish,
    LeakyRelu,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Pad,
    Padding,
    PRelu,
    QParams,
    QWeight,
    Requantize,
    Reshape,
    Shape,
    Sigmoid,
    Silu,
    Upsample,
    Value,
    Window,
)
from tests.support.random_draft import CHANNELS, Draft

IMAGE_STEPS = ("conv", "conv", "conv", "max", "avg", "pad", "upsample", "add", "concat", "fold")
ANY_STEPS = ("lookup", "requantize", "add", "multiply")
VECTOR_STEPS = ("linear", "linear", "lookup", "requantize", "add", "multiply")
MOST_CHANNELS = 2048  # of a layer that keeps them


def random_step(draft: Draft, x: Value, *, last: bool) -> Value:
    """Add one random step that reads ``x`` and return its output."""
    image = len(x.shape) == 4
    steps = (*IMAGE_STEPS, *ANY_STEPS) if image else VECTOR_STEPS
    kind = draft.pick(steps)
    if image and last and draft.chance(0.3):
        return classify(draft, x)
    match kind:
        case "conv":
            return conv(draft, x, draft.encoding())
        case "linear":
            return linear(draft, x, draft.encoding())
        case "lookup":
            return lookup(draft, x)
        case "requantize":
            return draft.write(Requantize("", (x.name,), ""), x.shape, draft.encoding())
        case "add":
            return residual(draft, x)
        case "multiply":
            return multiply(draft, x)
        case "concat":
            return concat(draft, x)
        case _:
            return move(draft, x, kind)


def conv(draft: Draft, x: Value, q: QParams | None, window: Window | None = None) -> Value:
    """Add a convolution: plain, grouped, depthwise, or depthwise with a multiplier."""
    channels = x.shape[1]
    window = window or draft.window(x.shape, dilated=True)
    groups = draft.pick([g for g in range(1, channels + 1) if channels % g == 0])
    groups = draft.pick((1, groups, channels))
    per_group = draft.pick((1, 2, 3)) if groups > 1 else draft.pick(CHANNELS)
    shape = (groups * per_group, channels // groups, *window.kernel)
    node = Conv2d("", (x.name,), "", draw_weight(draft, x, q, shape), window, groups)
    size = window.output_size(*x.shape[2:])
    return draft.write(node, (x.shape[0], shape[0], *size), q)


def linear(draft: Draft, x: Value, q: QParams | None, features: int | None = None) -> Value:
    """Add a fully connected layer."""
    features = features or draft.pick((*CHANNELS, 100))
    weight = draw_weight(draft, x, q, (features, x.shape[1]))
    return draft.write(Linear("", (x.name,), "", weight), (x.shape[0], features), q)


def draw_weight(draft: Draft, x: Value, q: QParams | None, shape: Shape) -> QWeight:
    """Return random codes, and scales that spread the accumulators over the codes of ``q``."""
    assert x.q is not None
    q = q or draft.encoding()
    bits = draft.between(1, 8)
    least = numerics.weight_limits(bits)[0] - draft.pick((0, int(bits > 1)))
    codes = draft.rng.integers(least, 1 << (bits - 1), shape).astype(np.int8)
    if bits == 1:
        codes = np.where(draft.rng.random(shape) < 0.5, -1, 1).astype(np.int8)
    reals = np.arange(x.q.low, x.q.high + 1) - x.q.zero_point
    deviation = np.sqrt(np.mean(reals**2) * np.sum(codes.reshape(shape[0], -1) ** 2.0, 1)) + 1
    target = (q.high - q.low + 1) / 4 * draft.rng.uniform(0.3, 1.5, shape[0])
    scale = target / deviation * q.scale / x.q.scale
    bias = np.rint(draft.rng.normal(0, 0.7, shape[0]) * deviation)
    return QWeight(codes, scale.astype(np.float32), bias.astype(np.int32), bits)


def residual(draft: Draft, x: Value) -> Value:
    """Add two values at one scale: ``x`` where it has 8 bits, else its requantization."""
    q = draft.encoding(bits=8)
    if x.q is not None and x.q.bits == 8 and draft.chance(0.7):
        stream, q = x, replace(q, scale=x.q.scale)
    else:
        stream = draft.write(Requantize("", (x.name,), ""), x.shape, q)
    branch = _same_shape(draft, x, replace(draft.encoding(bits=8), scale=q.scale))
    inputs = (stream.name, branch.name) if draft.chance(0.5) else (branch.name, stream.name)
    return draft.write(Add("", inputs, ""), x.shape, replace(draft.encoding(bits=8), scale=q.scale))


def multiply(draft: Draft, x: Value) -> Value:
    """Multiply ``x`` by itself, by another tensor of its shape, or by gates, in either order."""
    other = draft.pick((x, _same_shape(draft, x, draft.encoding())))
    if len(x.shape) == 4 and draft.chance(0.6):
        pool = GlobalAvgPool("", (draft.pick((x, other)).name,), "")
        other = lookup(draft, draft.write(pool, (*x.shape[:2], 1, 1), _of_means(draft, x, other)))
    assert x.q is not None
    assert other.q is not None
    reach = x.q.scale * other.q.scale * x.q.maximum * other.q.maximum
    q = draft.encoding()
    scale = float(np.float32(reach * draft.rng.uniform(0.1, 1.2) / q.maximum))
    inputs = (x.name, other.name) if draft.chance(0.5) else (other.name, x.name)
    return draft.write(Multiply("", inputs, ""), x.shape, replace(q, scale=scale))


def _same_shape(draft: Draft, x: Value, q: QParams) -> Value:
    """Return ``x`` through a layer that keeps its shape, or requantized where that were huge."""
    if x.shape[1] > MOST_CHANNELS:
        return draft.write(Requantize("", (x.name,), ""), x.shape, q)
    if len(x.shape) == 2:
        return linear(draft, x, q, x.shape[1])
    if x.shape[1] in CHANNELS and draft.chance(0.5):
        window = Window((3, 3), padding=Padding(1, 1, 1, 1))
        weight = draw_weight(draft, x, q, (x.shape[1], 1, 3, 3))
        return draft.write(Conv2d("", (x.name,), "", weight, window, x.shape[1]), x.shape, q)
    weight = draw_weight(draft, x, q, (x.shape[1], x.shape[1], 1, 1))
    return draft.write(Conv2d("", (x.name,), "", weight, Window((1, 1))), x.shape, q)


def concat(draft: Draft, x: Value) -> Value:
    """Join two or three values of one encoding along the channels."""
    q = draft.encoding()
    window = draft.window(x.shape, dilated=False)
    parts = [conv(draft, x, q, window) for _ in range(draft.between(1, 2))]
    if window.output_size(*x.shape[2:]) == x.shape[2:]:
        parts.append(draft.write(Requantize("", (x.name,), ""), x.shape, q))
    channels = sum(part.shape[1] for part in parts)
    shape = (x.shape[0], channels, *parts[0].shape[2:])
    return draft.write(Concat("", tuple(part.name for part in parts), ""), shape, q)


def classify(draft: Draft, x: Value) -> Value:
    """End as classifiers do: pool over space or not, flatten, fully connected."""
    if draft.chance(0.5):
        shape = (*x.shape[:2], 1, 1)
        x = draft.write(GlobalAvgPool("", (x.name,), ""), shape, _of_means(draft, x))
    shape = (x.shape[0], int(np.prod(x.shape[1:])))
    x = draft.write(Reshape("", (x.name,), ""), shape, x.q)
    return linear(draft, x, draft.encoding())


def lookup(draft: Draft, x: Value) -> Value:
    """Add a table of a real function, or of noise per channel."""
    q = draft.encoding()
    functions: tuple[Function, ...] = (
        LeakyRelu(0.1),
        Silu(),
        HardSwish(),
        Sigmoid(),
        Clamp(0.0, float("inf")),
    )
    function: Function = draft.pick(functions)
    table = draft.rng.integers(q.low, q.high, 256, np.uint8, endpoint=True)
    if draft.chance(0.4):
        function = PRelu(draft.rng.uniform(0, 1, x.shape[1]).astype(np.float32))
        shape = (x.shape[1], 256)
        table = draft.rng.integers(q.low, q.high, shape, np.uint8, endpoint=True)
    return draft.write(Lookup("", (x.name,), "", table, function), x.shape, q)


def move(draft: Draft, x: Value, kind: str) -> Value:
    """Add a pool, padding, enlargement or reshape of an image."""
    batch, channels, height, width = x.shape
    window = draft.window(x.shape, dilated=kind == "max")
    shape = (batch, channels, *window.output_size(height, width))
    if kind == "max" and _sees_everywhere(window, (height, width)):
        return draft.write(MaxPool("", (x.name,), "", window), shape, x.q)
    if kind == "avg" and not draft.exact and _sees_everywhere(window, (height, width)):
        top, left, bottom, right = window.padding
        counted = draft.pick((window.padding, Padding(), Padding(top, left, 0, right)))
        node = AvgPool("", (x.name,), "", window, counted)
        return draft.write(node, shape, _of_means(draft, x))
    if kind == "pad" and x.q is not None and x.q.low <= x.q.zero_point <= x.q.high:
        top, left, bottom, right = padding = Padding(*draft.rng.integers(0, 3, 4).tolist())
        shape = (batch, channels, height + top + bottom, width + left + right)
        return draft.write(Pad("", (x.name,), "", padding), shape, x.q)
    if kind == "upsample" and height * width < 150:
        rows, columns = draft.between(1, 3), draft.between(1, 3)
        shape = (batch, channels, height * rows, width * columns)
        return draft.write(Upsample("", (x.name,), "", (rows, columns)), shape, x.q)
    shape = (batch, channels * height, width, 1)
    return draft.write(Reshape("", (x.name,), ""), shape, x.q)


def _of_means(draft: Draft, *terms: Value) -> QParams:
    """Return random parameters of means; onnxruntime refuses 256 times the resolution of a term."""
    q = draft.encoding()
    largest = max(term.q.scale for term in terms if term.q is not None)
    return q if largest < 255 * q.scale else replace(q, scale=largest)


def _sees_everywhere(window: Window, size: tuple[int, int]) -> bool:
    """Tell whether no window lies in the padding alone."""
    pool = AvgPool("", ("",), "", window, Padding())
    return bool(reference.divisors(size, pool).min() > 0)
