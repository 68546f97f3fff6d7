"""Which integer graphs are legal: one line and one reason each.

A pass or a backend may rely on every rule here; a graph that breaks one is a broken invariant of
gmpq, so each rule is an ``assert`` that names the node or value.
"""

from __future__ import annotations

from math import prod
from typing import assert_never

import numpy as np

from gmpq import numerics
from gmpq.ir import (
    Add,
    AvgPool,
    Concat,
    Conv2d,
    Dequantize,
    GlobalAvgPool,
    IntGraph,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
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
    Softmax,
    Upsample,
    Value,
)
from gmpq.spec_types import INT32, check_types
from gmpq.spec_windows import MOST_ELEMENTS, check_mean, check_seen, image, is_normal, slide


def check(graph: IntGraph) -> None:
    """Pass if ``graph`` is legal.

    Raises:
        AssertionError: with the name of the node or value and the rule that it breaks.
    """
    check_types(graph)
    _check_names(graph)
    for value in graph.values.values():
        _check_value(value)
    for node in graph.nodes:
        _check_node(node, [graph.values[name] for name in node.inputs], graph.values[node.output])


def _check_names(graph: IntGraph) -> None:
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names), "node names are unique: reports are keyed by them"
    known = set(graph.inputs)
    assert len(known) == len(graph.inputs), "every input has its own name"
    for node in graph.nodes:
        assert node.name, "every node has a name"
        assert known.issuperset(node.inputs), f"{node.name}: nodes stand in execution order"
        assert node.output not in known, f"{node.name}: {node.output} has one producer"
        known.add(node.output)
    assert known == set(graph.values), "every value is an input or the output of one node"
    assert graph.outputs, "a network has an output"
    assert known.issuperset(graph.outputs), "every output is a value"
    assert len(set(graph.outputs)) == len(graph.outputs), "outputs are different values"
    assert set(graph.inputs).isdisjoint(graph.outputs), "an output is written, an input is not"
    for name in (*graph.inputs, *graph.outputs):
        assert graph.values[name].q is None, f"{name}: the outside of a network is float32"
    for key, value in graph.values.items():
        assert value.name == key, f"{key}: a value is found under its own name"


def _check_value(value: Value) -> None:
    assert value.name, "every value has a name"
    assert value.shape, f"{value.name}: every value has a batch axis"
    assert min(value.shape) > 0, f"{value.name}: no axis is empty"
    assert prod(value.shape) <= MOST_ELEMENTS, f"{value.name}: elements are counted in int32"
    if value.q is not None:
        _check_encoding(value.name, value.q)


def _check_encoding(name: str, q: QParams) -> None:
    assert 1 <= q.bits <= 8, f"{name}: codes live in a uint8 container"
    assert is_normal(q.scale), f"{name}: the scale {q.scale} is a normal float32 above 0"
    assert 0 <= q.low <= q.high <= q.maximum, f"{name}: the clip lies within the container"
    assert 0 <= q.zero_point <= q.maximum, f"{name}: real 0 is a code, since padding writes it"


def _check_node(node: Node, inputs: list[Value], output: Value) -> None:
    if not isinstance(node, Quantize | Dequantize | Softmax):
        _check_codes(node, inputs, output)
    match node:
        case Quantize() | Dequantize() | Softmax():
            _check_boundary(node, inputs[0], output)
        case Conv2d() | Linear():
            _check_layer(node, inputs[0], output)
        case Lookup():
            _check_table(node, inputs[0], output)
        case Requantize():
            _check_shape(node, output, inputs[0].shape)
        case Add() | Concat():
            _check_join(node, inputs, output)
        case Multiply():
            _check_product(node, inputs, output)
        case MaxPool() | AvgPool() | GlobalAvgPool():
            _check_pool(node, inputs[0], output)
        case Pad() | Reshape() | Upsample():
            _check_move(node, inputs[0], output)
        case _:
            assert_never(node)


def _check_codes(node: Node, inputs: list[Value], output: Value) -> None:
    real = output.q is None  # as layers may write, and what moves whole values may join
    if real and isinstance(node, Concat | Reshape):
        for value in inputs:
            assert value.q is None, f"{node.name}: {value.name} is float32, like {output.name}"
        return
    for value in inputs if real and isinstance(node, Conv2d | Linear) else (*inputs, output):
        assert value.q is not None, f"{node.name}: {value.name} holds codes"


def _check_shape(node: Node, output: Value, shape: Shape) -> None:
    assert output.shape == shape, f"{node.name}: output shape {output.shape} is {shape}"


def _check_boundary(node: Quantize | Dequantize | Softmax, source: Value, output: Value) -> None:
    _check_shape(node, output, source.shape)
    reads_codes, writes_codes = isinstance(node, Dequantize), isinstance(node, Quantize)
    assert (source.q is not None) == reads_codes, f"{node.name}: the type of {source.name}"
    assert (output.q is not None) == writes_codes, f"{node.name}: the type of {output.name}"


# --- layers --------------------------------------------------------------------------------------


def _check_layer(node: Conv2d | Linear, source: Value, output: Value) -> None:
    codes = node.weight.codes
    match node:
        case Conv2d():
            batch, channels, height, width = image(node, source)
            assert codes.ndim == 4, f"{node.name}: the weight is [O, I / groups, kH, kW]"
            assert channels == codes.shape[1] * node.groups, f"{node.name}: input channels"
            assert codes.shape[0] % node.groups == 0, f"{node.name}: groups share the outputs"
            assert codes.shape[2:] == node.window.kernel, f"{node.name}: kernel of the weight"
            size = slide(node, node.window, height, width)
            _check_shape(node, output, (batch, codes.shape[0], *size))
        case Linear():
            assert codes.ndim == 2, f"{node.name}: the weight is [O, I]"
            assert source.shape[1:] == codes.shape[1:], f"{node.name}: input features"
            _check_shape(node, output, (source.shape[0], codes.shape[0]))
        case _:
            assert_never(node)
    _check_weight(node.name, node.weight)
    _check_accumulator(node, _q(source), output.q)


def _check_weight(name: str, weight: QWeight) -> None:
    channels = weight.codes.shape[:1]
    assert weight.scale.shape == weight.bias.shape == channels, f"{name}: one scale per channel"
    assert 1 <= weight.bits <= 8, f"{name}: weight codes live in an int8 container"
    low, high = -(1 << (weight.bits - 1)), numerics.weight_limits(weight.bits)[1]
    inside = (weight.codes >= low).all() and (weight.codes <= high).all()
    assert inside, f"{name}: weight codes fit {weight.bits} bits"
    if weight.bits == 1:
        assert weight.codes.all(), f"{name}: 1-bit weights are -1 or +1, so that one bit holds them"
    assert all(is_normal(float(s)) for s in weight.scale), f"{name}: weight scales are normal"


def _check_accumulator(node: Conv2d | Linear, qx: QParams, qy: QParams | None) -> None:
    weight = node.weight
    flat = weight.codes.reshape(len(weight.codes), -1).astype(np.int64)
    most, least = max(qx.high - qx.zero_point, 0), min(qx.low - qx.zero_point, 0)  # padding is 0
    positive, negative = np.maximum(flat, 0).sum(1), np.minimum(flat, 0).sum(1)
    largest = positive * most + negative * least + weight.bias
    smallest = positive * least + negative * most + weight.bias
    fits = largest.max() <= INT32.max and smallest.min() >= INT32.min
    assert fits, f"{node.name}: no input overflows the int32 accumulator"
    with np.errstate(over="ignore", under="ignore"):
        scale = numerics.accumulator_scale(qx.scale, weight.scale)
        factors = (scale, *([] if qy is None else [numerics.multiplier(scale, qy.scale)]))
    for factor in factors:
        assert all(is_normal(float(f)) for f in factor), f"{node.name}: multipliers are normal"


def _check_table(node: Lookup, source: Value, output: Value) -> None:
    _check_shape(node, output, source.shape)
    shapes = ((256,), (*source.shape[1:2], 256))
    assert node.table.shape in shapes, f"{node.name}: one table, or one per channel"
    if isinstance(node.function, PRelu):
        assert node.function.slopes.shape == source.shape[1:2], f"{node.name}: a slope per channel"
    q = _q(output)
    inside = q.low <= node.table.min() and node.table.max() <= q.high
    assert inside, f"{node.name}: the table stays within the output's clip"


# --- data movement -------------------------------------------------------------------------------


def _check_join(node: Add | Concat, inputs: list[Value], output: Value) -> None:
    shapes = [value.shape for value in inputs]
    match node:
        case Add():
            assert shapes[0] == shapes[1], f"{node.name}: no broadcast"
            _check_shape(node, output, shapes[0])
            for q in map(_q, (*inputs, output)):
                assert q.scale == _q(output).scale, f"{node.name}: one scale, so adding is exact"
                assert q.bits == 8, f"{node.name}: the residual stream has 8 bits"
        case Concat():
            assert min(map(len, shapes)) > 1, f"{node.name}: every input has channels"
            channels = sum(shape[1] for shape in shapes)
            _check_shape(node, output, (shapes[0][0], channels, *shapes[0][2:]))
            rests = {(shape[0], *shape[2:]) for shape in shapes}
            assert len(rests) == 1, f"{node.name}: only the channels differ"
            for value in inputs:
                _check_same(node, value, output)
        case _:
            assert_never(node)


def _check_product(node: Multiply, inputs: list[Value], output: Value) -> None:
    a, b = inputs
    shapes = sorted((a.shape, b.shape))
    gated = len(a.shape) == 4 and shapes[0] == (*output.shape[:2], 1, 1)
    assert gated or a.shape == b.shape, f"{node.name}: equal shapes, or [N, C, 1, 1] as a gate"
    _check_shape(node, output, shapes[1])
    scale = numerics.product_scale(_q(a).scale, _q(b).scale)
    for factor in (scale, numerics.multiplier(scale, _q(output).scale)):
        assert is_normal(float(factor)), f"{node.name}: multipliers are normal"


def _check_same(node: Node, source: Value, output: Value) -> None:
    if output.q is None:
        return  # float32 on both sides
    qx, qy = _q(source), output.q
    same = (qx.scale, qx.zero_point, qx.bits) == (qy.scale, qy.zero_point, qy.bits)
    assert same, f"{node.name}: {source.name} and {output.name} share their codes"
    inside = qy.low <= qx.low and qx.high <= qy.high
    assert inside, f"{node.name}: {output.name} bounds the codes of {source.name}"


def _check_pool(node: MaxPool | AvgPool | GlobalAvgPool, source: Value, output: Value) -> None:
    batch, channels, height, width = image(node, source)
    if isinstance(node, GlobalAvgPool):
        _check_shape(node, output, (batch, channels, 1, 1))
        check_mean(node, (height, width), source.q, output.q)
        return
    size, counted = slide(node, node.window, height, width), Padding()
    _check_shape(node, output, (batch, channels, *size))
    match node:
        case MaxPool():
            _check_same(node, source, output)
        case AvgPool():
            counted = node.counted
            within = all(0 <= c <= p for c, p in zip(counted, node.window.padding, strict=True))
            assert within, f"{node.name}: counted padding is padding"
            assert node.window.dilation == (1, 1), f"{node.name}: means are of neighbours"
            check_mean(node, node.window.kernel, source.q, output.q)
        case _:
            assert_never(node)
    check_seen(node, node.window, (height, width), counted)


def _check_move(node: Pad | Reshape | Upsample, source: Value, output: Value) -> None:
    _check_same(node, source, output)
    match node:
        case Reshape():
            assert source.shape[0] == output.shape[0], f"{node.name}: the batch stays"
            assert prod(source.shape) == prod(output.shape), f"{node.name}: the elements stay"
        case Pad():
            batch, channels, height, width = image(node, source)
            top, left, bottom, right = node.padding
            assert min(node.padding) >= 0, f"{node.name}: padding is not negative"
            _check_shape(
                node, output, (batch, channels, height + top + bottom, width + left + right)
            )
            q = _q(output)
            assert q.low <= q.zero_point <= q.high, f"{node.name}: the zeros are codes that occur"
        case Upsample():
            batch, channels, height, width = image(node, source)
            rows, columns = node.factors
            assert min(node.factors) > 0, f"{node.name}: factors are positive"
            _check_shape(node, output, (batch, channels, height * rows, width * columns))
        case _:
            assert_never(node)


def _q(value: Value) -> QParams:
    assert value.q is not None, f"{value.name} must hold codes"
    return value.q
