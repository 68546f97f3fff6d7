from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.ort.program import OrtProgram, run_forced
from gmpq.backends.ort.session import LEVELS, Level, Options, open_session, run
from gmpq.errors import TargetError
from gmpq.export.onnx import to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import (
    AvgPool,
    Conv2d,
    GlobalAvgPool,
    IntGraph,
    Linear,
    Lookup,
    MaxPool,
    Padding,
    PRelu,
    QParams,
    Requantize,
    Sigmoid,
    Value,
    Window,
)
from tests.support.builders import Q8, chain, residual, weight
from tests.support.single_layers import random_convolution, random_linear, writing_float32
from tests.support.strategies import graphs, random_codes, random_graph, random_input

INTEGER_LEVELS = (Level.EXTENDED, Level.ALL)
FLOAT_LEVELS = (Level.DISABLED, Level.BASIC)


def assert_same_codes(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name, codes in found.items():
        assert codes.dtype == np.uint8
        np.testing.assert_array_equal(expected[name], codes, err_msg=name)


@settings(max_examples=150)
@given(graph=graphs(exact=True), seed=st.integers(0, 1000))
def test_every_code_equals_the_reference(graph: IntGraph, seed: int) -> None:
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    for level in INTEGER_LEVELS:
        program = OrtProgram.load(graph, level=level)
        found = program.trace(inputs)
        assert {name for name, value in graph.values.items() if value.q is not None} == set(found)
        assert_same_codes(expected, found)
        for name, real in program.run(inputs).items():
            np.testing.assert_array_equal(expected[name], real, err_msg=name)


@settings(max_examples=60)
@given(graph=graphs(exact=True), seed=st.integers(0, 1000))
def test_packed_weights_compute_the_same(graph: IntGraph, seed: int) -> None:
    inputs = random_input(graph, seed)
    program, expected = OrtProgram.load(graph, WeightStorage.PACKED), reference.run(graph, inputs)
    assert_same_codes(expected, program.trace(inputs))
    for name, real in program.run(inputs).items():
        np.testing.assert_array_equal(expected[name], real, err_msg=name)


@pytest.mark.parametrize("layer", [random_convolution, random_linear])
@pytest.mark.parametrize("seed", range(8))
def test_a_layer_that_writes_float32_is_exact_at_every_level(
    layer: Callable[[np.random.Generator, tuple[int, int]], IntGraph], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    graph = writing_float32(layer(rng, (8 - seed % 4, 8 - seed)))
    x = random_codes(graph.values["x"], rng).astype(np.float32)
    q = graph.values["x"].q
    assert q is not None
    image = {"image": x - np.float32(q.zero_point)}
    expected = reference.run(graph, image)["y"]
    for level in LEVELS:
        for storage in WeightStorage:
            for exact in (True, False):
                options = Options(level, exact=exact)
                found = run(open_session(to_onnx(graph, storage), options), image)["y"]
                np.testing.assert_array_equal(expected, found)


@settings(max_examples=40)
@given(graph=graphs(), seed=st.integers(0, 1000))
def test_every_level_runs_every_graph(graph: IntGraph, seed: int) -> None:
    inputs = random_input(graph, seed)
    for level in LEVELS:
        for storage in WeightStorage:
            found = OrtProgram.load(graph, storage, level, threads=2).run(inputs)
            assert set(graph.outputs) == set(found)


@pytest.mark.parametrize("scale", [255.0, 256.0])
def test_means_of_256_times_the_resolution_are_refused_by_onnxruntime(scale: float) -> None:
    shape = (1, 8, 1, 1)
    pool = GlobalAvgPool("pool", ("",), "")
    graph = chain([(pool, shape, QParams.full(1.0, 0, 8))], shape, QParams.full(scale, 0, 8))
    inputs = random_input(graph, 0)
    for level in INTEGER_LEVELS:
        program = OrtProgram.load(graph, WeightStorage.INT8, level, threads=1)
        if scale < 256:
            expected = reference.run(graph, inputs)
            for name, found in program.run(inputs).items():
                np.testing.assert_array_equal(expected[name], found)
        else:
            with pytest.raises(TargetError, match="parameter out of computation range"):
                program.run(inputs)


def differences(graph: IntGraph, expected: dict[str, Tensor], level: Level) -> Tensor:
    """Return how far each code is from the reference, of all nodes fed with its codes."""
    found = run_forced(graph, expected, level)
    distances = [np.abs(codes.astype(int) - expected[name]) for name, codes in found.items()]
    return np.concatenate([distance.reshape(-1) for distance in distances])


@pytest.mark.parametrize("level", FLOAT_LEVELS, ids=lambda level: level.value)
def test_float_kernels_are_off_by_one_step_in_ten_thousand(level: Level) -> None:
    runs = []
    for seed in range(120):
        graph = random_graph(seed, exact=True)
        runs.append(differences(graph, reference.run(graph, random_input(graph, seed)), level))
    found = np.concatenate(runs)
    assert found.max() <= 1
    assert np.count_nonzero(found) <= found.size * 1e-4


@pytest.mark.parametrize("level", FLOAT_LEVELS, ids=lambda level: level.value)
def test_float_kernels_with_large_sums_too(level: Level) -> None:
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    conv = Conv2d("conv", ("",), "", weight((64, 256, 3, 3), 8, Q8, Q8), window)
    graph = chain([(conv, (1, 64, 28, 28), Q8)], (1, 256, 28, 28), Q8)
    found = differences(graph, reference.run(graph, random_input(graph, 0)), level)
    assert found.max() <= 1
    assert np.count_nonzero(found) <= found.size * 1e-4


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.value)
@pytest.mark.parametrize(
    ("padding", "counted"),
    [
        pytest.param(Padding(1, 1, 1, 1), Padding(), id="nothing-counts"),
        pytest.param(Padding(1, 1, 1, 1), Padding(1, 1, 1, 1), id="all-counts"),
        pytest.param(Padding(1, 1, 2, 2), Padding(1, 1, 0, 1), id="some-counts"),
        pytest.param(Padding(4, 3, 5, 4), Padding(4, 3, 5, 4), id="wider-than-the-kernel"),
        pytest.param(Padding(4, 3, 5, 4), Padding(4, 3, 4, 3), id="wider-and-ceil-mode"),
    ],
)
def test_average_pooling_is_within_one_step(
    level: Level, padding: Padding, counted: Padding
) -> None:
    # Ties, frequent where both scales are equal, break differently in onnxruntime.
    window = Window((4, 3), (2, 1), padding)
    node = AvgPool("pool", ("",), "", window, counted)
    graph = chain([(node, (2, 5, *window.output_size(10, 12)), Q8)], (2, 5, 10, 12), Q8)
    expected = reference.run(graph, random_input(graph, 0))
    found = run_forced(graph, expected, level)["pool"]
    assert np.abs(found.astype(int) - expected["pool"]).max() <= 1


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.value)
@pytest.mark.parametrize("padding", [1, 2, 3, 4])
def test_max_pooling_with_wide_padding(level: Level, padding: int) -> None:
    # onnxruntime refuses padding as wide as the kernel, which dilation makes sensible.
    window = Window((3, 3), padding=Padding(*[padding] * 4), dilation=(2, 2))
    node = MaxPool("pool", ("",), "", window)
    graph = chain([(node, (1, 3, *window.output_size(9, 8)), Q8)], (1, 3, 9, 8), Q8)
    inputs = random_input(graph, 0)
    found = OrtProgram.load(graph, level=level).trace(inputs)
    assert_same_codes(reference.run(graph, inputs), found)


@pytest.mark.parametrize("storage", WeightStorage, ids=lambda storage: storage.value)
@pytest.mark.parametrize("a", range(1, 9))
@pytest.mark.parametrize("w", range(1, 9))
def test_every_pair_of_widths(w: int, a: int, storage: WeightStorage) -> None:
    q = QParams.full(0.03, (1 << a) // 2 if a > 1 else 0, a)
    window = Window((3, 3), (2, 1), Padding(0, 1, 1, 2))
    conv = Conv2d("conv", ("",), "", weight((24, 17, 3, 3), w, q, Q8), window)
    linear = Linear("fc", ("",), "", weight((40, 24), w, Q8, Q8))
    image = chain([(conv, (2, 24, 4, 10), Q8)], (2, 17, 9, 9), q)
    vector = chain([(linear, (3, 40), Q8)], (3, 24), Q8)
    for graph in (image, vector):
        inputs = random_input(graph, w)
        found = OrtProgram.load(graph, storage).trace(inputs)
        assert_same_codes(reference.run(graph, inputs), found)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.value)
def test_requantizations_in_a_row_are_not_merged(level: Level) -> None:
    # Without a clip between them onnxruntime makes one of two QuantizeLinear, with other results.
    shape = (1, 3, 16, 16)
    steps = [
        (Requantize("coarse", ("",), ""), shape, QParams.full(0.071, 120, 8)),
        (Requantize("fine", ("",), ""), shape, QParams.full(0.033, 100, 8)),
    ]
    graph = chain([*steps], shape, Q8)
    inputs = random_input(graph, 0)
    found = OrtProgram.load(graph, level=level).trace(inputs)
    assert_same_codes(reference.run(graph, inputs), found)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.value)
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (2, 5)], ids=["image", "vector"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["one-table", "table-per-channel"])
def test_tables_are_exact_at_every_level(
    level: Level, shape: tuple[int, ...], per_channel: bool
) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 255, (5, 256) if per_channel else 256, np.uint8, endpoint=True)
    function = PRelu(np.ones(5, np.float32)) if per_channel else Sigmoid()
    graph = chain([(Lookup("table", ("",), "", table, function), shape, Q8)], shape, Q8)
    inputs = random_input(graph, 0)
    found = OrtProgram.load(graph, level=level).trace(inputs)
    assert_same_codes(reference.run(graph, inputs), found)


def test_a_second_call_of_a_layer_keeps_its_own_codes() -> None:
    # Lowering names the second call of one module "path:2".
    conv = Conv2d("conv", ("",), "", weight((2, 2, 1, 1), 4, Q8, Q8), Window((1, 1)))
    shape = (1, 2, 4, 4)
    graph = chain([(conv, shape, Q8), (replace(conv, name="conv:2"), shape, Q8)], shape, Q8)
    inputs = random_input(graph, 0)
    assert_same_codes(reference.run(graph, inputs), OrtProgram.load(graph).trace(inputs))


def test_wrong_inputs_are_told_in_one_line() -> None:
    graph = residual()
    program = OrtProgram.load(graph)
    with pytest.raises(TargetError, match=r"cannot run the model: .*INVALID_ARGUMENT") as told:
        program.run({"x": np.zeros((1, 2, 4, 5), np.float32)})
    assert "\n" not in str(told.value)


def test_a_model_that_does_not_load_is_told_in_one_line() -> None:
    model = ModelProto()
    model.CopyFrom(to_onnx(residual()))
    model.opset_import[0].version = 999
    with pytest.raises(TargetError, match="cannot load the model: ") as told:
        open_session(model)
    assert "\n" not in str(told.value)


def test_a_missing_input_is_told() -> None:
    session = open_session(to_onnx(residual()))
    with pytest.raises(TargetError, match="x"):
        run(session, {})


def test_forced_nodes_read_what_they_are_given() -> None:
    graph = residual()
    tensors = reference.run(graph, random_input(graph, 0))
    constant: Value = graph.values["block.conv"]
    tensors["block.conv"] = np.full(constant.shape, 200, np.uint8)
    add = graph.nodes[3]
    expected = reference.compute(graph, add, [tensors[name] for name in add.inputs])
    found = run_forced(graph, tensors, Level.ALL)
    np.testing.assert_array_equal(expected, found["block.add"])
