"""Random ends of a draft: how codes become a network's float32 output."""

from __future__ import annotations

from math import prod

from gmpq.ir import Concat, Reshape, Value
from tests.support.random_draft import Draft
from tests.support.random_steps import conv, linear


def random_end(draft: Draft, x: Value) -> Value:
    """Make codes ``x`` real by a Dequantize, a layer, or several of both side by side."""
    match draft.pick(("codes", "layer", "layer", "joined")):
        case "codes":
            return draft.dequantize(x)
        case "layer":
            return _reshaped(draft, _layer(draft, x))
        case _:
            return _reshaped(draft, _joined(draft, x))


def _layer(draft: Draft, x: Value) -> Value:
    return linear(draft, x, None) if len(x.shape) == 2 else conv(draft, x, None)


def _joined(draft: Draft, x: Value) -> Value:
    """Return two or three values of different scales along the channels."""
    if len(x.shape) == 2:
        parts = [draft.dequantize(x), *(linear(draft, x, None) for _ in range(2))]
    else:
        window = draft.window(x.shape, dilated=True)
        coded = conv(draft, x, draft.encoding(), window)
        parts = [conv(draft, x, None, window), draft.dequantize(coded)]
    shape = parts[0].shape
    joined = (shape[0], sum(part.shape[1] for part in parts), *shape[2:])
    return draft.write(Concat("", tuple(part.name for part in parts), ""), joined, None)


def _reshaped(draft: Draft, x: Value) -> Value:
    """Return ``x``, sometimes flattened."""
    if draft.chance(0.6):
        return x
    return draft.write(Reshape("", (x.name,), ""), (x.shape[0], prod(x.shape[1:])), None)
