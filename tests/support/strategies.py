"""Random legal integer graphs: a plain seeded generator, and hypothesis strategies over it.

Every value first gets its ``QParams``; a layer then gets weight scales that spread its accumulators
over the output's codes. So shared scales cost nothing, and codes saturate sometimes, not always.
"""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from gmpq import spec
from gmpq.backends.reference import Tensor
from gmpq.ir import Concat, IntGraph, Reshape, Value
from tests.support.random_draft import Draft
from tests.support.random_steps import conv, linear, random_step


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
        value = random_step(draft, value, last=step == count - 1)
    graph = draft.finish(_real_output(draft, value), f"random{seed}")
    spec.check(graph)
    return graph


def _real_output(draft: Draft, x: Value) -> Value:
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
