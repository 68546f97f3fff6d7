"""Random single layers, and programs of them by a chosen kernel."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gmpq.backends import reference
from gmpq.backends.base import Executable
from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.emulation.open import Unavailable, open_compiled
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.plan.plan import Choice, Verdict, plan
from gmpq.backends.tvm.target import CpuTarget, Target, find
from gmpq.ir import (
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Linear,
    Padding,
    QParams,
    Quantize,
    QWeight,
    Value,
    Window,
)
from gmpq.numerics import weight_limits
from gmpq.program import Program

V3 = find("x86-64-v3")
BASELINE = replace(V3, name="x86-64", cpu="x86-64", features=frozenset())
WITHOUT_VNNI = replace(
    V3,
    name="avx512bw",
    cpu="x86-64-v4",
    features=V3.features | {"avx512f", "avx512bw", "avx512vl"},
    vector_registers=32,
)

CHANNELS = (1, 3, 4, 8, 17, 24, 32, 48, 70)


def random_convolution(rng: np.random.Generator, bits: tuple[int, int]) -> IntGraph:
    """Return one convolution of random shape, with ``bits`` of its codes and of its weights."""
    input_bits, weight_bits = bits
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    inputs, outputs = (int(n) * groups for n in rng.choice(CHANNELS, 2))
    kernel = (int(rng.choice([1, 2, 3, 5])), int(rng.choice([1, 3, 4])))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    window = Window(kernel, stride, Padding(*(int(n) for n in rng.integers(0, 3, 4))), dilation)
    size = (int(rng.integers(9, 13)), int(rng.integers(9, 13)))
    q = QParams.full(1.0, int(rng.integers(0, 1 << input_bits)), input_bits)
    weight = random_weight(rng, (outputs, inputs // groups, *kernel), weight_bits)
    return network_of(Conv2d("conv", ("x",), "y", weight, window, groups), q, size, 1)


def random_weight(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> QWeight:
    """Return weights: bell-shaped, of one sign, or at the ends of their range."""
    low, high = weight_limits(bits)
    kind = rng.integers(0, 4)
    codes = rng.normal(0, high / 2.5, shape).round()
    if kind == 1:
        codes = np.abs(codes)
    elif kind == 2:
        codes = rng.choice([low, high], shape)
    if bits == 1:
        codes = np.where(codes > 0, 1, -1)
    fan_in = int(np.prod(shape[1:]))
    scale = rng.uniform(0.5, 1.5, shape[0]).astype(np.float32) / np.float32(high * fan_in**0.5)
    bias = rng.integers(-50, 50, shape[0]).astype(np.int32)
    return QWeight(np.clip(codes, low, high).astype(np.int8), scale, bias, bits)


def network_of(node: Conv2d, q: QParams, size: tuple[int, int], batch: int) -> IntGraph:
    """Return quantize, the convolution, dequantize."""
    outputs, inputs = len(node.weight.codes), node.weight.codes.shape[1] * node.groups
    rows, columns = node.window.output_size(*size)
    values = (
        Value("image", (batch, inputs, *size)),
        Value("x", (batch, inputs, *size), q),
        Value("y", (batch, outputs, rows, columns), QParams.full(0.37, 128, 8)),
        Value("real", (batch, outputs, rows, columns)),
    )
    io = Quantize("quantize", ("image",), "x"), Dequantize("dequantize", ("y",), "real")
    nodes = (io[0], node, io[1])
    return Graph("g", ("image",), ("real",), {v.name: v for v in values}, nodes)


def writing_float32(graph: IntGraph) -> IntGraph:
    """Return a graph of a single layer ``y`` without the codes of its output."""
    values = {"image": graph.values["image"], "x": graph.values["x"]}
    values["y"] = replace(graph.values["y"], q=None)
    return replace(graph, outputs=("y",), values=values, nodes=graph.nodes[:2])


def layer_of_many_bits(
    rng: np.random.Generator, kind: int, inputs: int, outputs: int, spread: float
) -> tuple[Conv2d, QParams]:
    """Return a convolution of seven or eight bits without -128, and parameters of its input.

    ``kind`` is 0 to 3: strides, dilations and zero points. Weights of eight bits have a standard
    deviation of ``spread``.
    """
    size, bits = int(rng.choice([1, 3])), int(rng.choice([7, 8]))
    weight = random_weight(rng, (outputs, inputs, size, size), bits)
    if bits == 8:
        bell = rng.normal(0, spread, weight.codes.shape).round()
        weight.codes[:] = np.clip(bell, -127, 127)
    window = Window((size, size), (1 + kind % 2,) * 2, Padding(1, 0, 1, 1), (1, 1 + kind // 2))
    return Conv2d("conv", ("x",), "y", weight, window), QParams.full(1.0, kind, 8)


def check(
    graph: IntGraph, target: Target, folder: Path, family: str, number: int, form: str = ""
) -> bool:
    """Assert that a kernel of ``family`` equals the reference; return False if it refuses.

    ``number`` selects one of its configurations whose names have ``form`` in them. The samples are
    random codes, all of the highest code, and codes at both ends.
    """
    taken: list[Choice] = []

    def choose(site: object, choices: Sequence[Choice]) -> Verdict:
        found = [c for c in choices if c[0].name == family and form in c[1].configuration]
        if not found:
            return Verdict(min(choices, key=lambda choice: choice[1].cost))
        taken.append(found[number % len(found)])
        return Verdict(taken[-1])

    planned = plan(graph, target, choose)
    if not taken:
        return False
    program = assemble(graph, planned, target, folder).program
    compiled = _opened(folder, program, target)
    q, shape = graph.values["x"].q, graph.values["x"].shape
    assert q is not None
    rng = np.random.default_rng(number)
    extremes = rng.choice([0, q.maximum], shape)
    for codes in (rng.integers(0, q.maximum + 1, shape), np.full(shape, q.maximum), extremes):
        image = (codes - q.zero_point).astype(np.float32)
        expected = reference.run(graph, {"image": image})["y"]
        found = compiled.trace({"image": image})["y"]
        np.testing.assert_array_equal(expected, found, err_msg=f"{taken[0][1].configuration}")
    compiled.close()
    return True


def _opened(folder: Path, program: Program, target: Target) -> Executable:
    """Return the program, here even if its processor is only imitated by arithmetic."""
    if isinstance(target, CpuTarget) and target.machine == platform.machine():
        return HostProgram.open(folder, program)
    compiled = open_compiled(folder, program, target)
    assert not isinstance(compiled, Unavailable), compiled.reason
    return compiled


def random_linear(
    rng: np.random.Generator, bits: tuple[int, int], sizes: tuple[int, int, int] | None = None
) -> IntGraph:
    """Return one fully connected layer with ``bits`` of codes and weights.

    ``sizes`` are images, inputs and outputs; without them, they are random.
    """
    input_bits, weight_bits = bits
    drawn = (int(rng.integers(*bounds)) for bounds in ((1, 4), (1, 300), (1, 150)))
    batch, inputs, outputs = sizes or drawn
    q = QParams.full(1.0, int(rng.integers(0, 1 << input_bits)), input_bits)
    weight = random_weight(rng, (outputs, inputs), weight_bits)
    values = (
        Value("image", (batch, inputs)),
        Value("x", (batch, inputs), q),
        Value("y", (batch, outputs), QParams.full(0.37, 128, 8)),
        Value("real", (batch, outputs)),
    )
    io = Quantize("quantize", ("image",), "x"), Dequantize("dequantize", ("y",), "real")
    nodes = (io[0], Linear("linear", ("x",), "y", weight), io[1])
    return Graph("g", ("image",), ("real",), {v.name: v for v in values}, nodes)
