"""The verdict: what counts as equal, what is tolerated, and what is named first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from gmpq.artifact import parity
from gmpq.artifact.parity import FLOAT_KERNELS, Parity, Trace
from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.ir import (
    NO_PADDING,
    AvgPool,
    Dequantize,
    Graph,
    IntGraph,
    MaxPool,
    QParams,
    Quantize,
    Value,
    Window,
)

Q = QParams.full(0.1, 3, 8)
POOL = Window((2, 2), (2, 2))


def graph() -> IntGraph:
    """Quantize, take maxima, take means, dequantize."""
    values = [
        Value("x", (1, 2, 8, 8)),
        Value("codes", (1, 2, 8, 8), Q),
        Value("max", (1, 2, 4, 4), Q),
        Value("mean", (1, 2, 2, 2), Q),
        Value("after", (1, 2, 1, 1), Q),
        Value("y", (1, 2, 1, 1)),
    ]
    nodes = (
        Quantize("quantize", ("x",), "codes"),
        MaxPool("maxima", ("codes",), "max", POOL),
        AvgPool("means", ("max",), "mean", POOL, NO_PADDING),
        MaxPool("last", ("mean",), "after", POOL),
        Dequantize("dequantize", ("after",), "y"),
    )
    return Graph("net", ("x",), ("y",), {value.name: value for value in values}, nodes)


GRAPH = graph()
EXPECTED = reference.run(
    GRAPH, {"x": np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)}
)


def changed(**steps: int) -> dict[str, Tensor]:
    """Return the expected codes with the first element of some tensors moved."""
    codes = {name: EXPECTED[name].copy() for name in parity.codes_of(GRAPH)}
    for name, step in steps.items():
        codes[name].flat[0] += step
    return codes


def judged(trace: Trace, skipped: Mapping[str, str] | None = None) -> Parity:
    return parity.gather(GRAPH, [parity.compare(GRAPH, EXPECTED, trace)], [], skipped or {})


def test_equal_codes_are_equal() -> None:
    found = judged(Trace("tvm", "", changed()))
    assert found.equal
    assert parity.to_json(found)["verdict"] == "equal"
    assert parity.to_json(found)["first_divergence"] is None
    assert [c.tensor for c in found.comparisons] == ["codes", "max", "mean", "after"]
    assert sum(c.compared for c in found.comparisons) == 128 + 32 + 8 + 2


def test_the_first_difference_is_named() -> None:
    found = judged(Trace("tvm", "", changed(max=2, after=1)))
    document = parity.to_json(found)
    assert document["verdict"] == "different"
    first = document["first_divergence"]
    assert (first["backend"], first["tensor"]) == ("tvm", "max")
    assert (first["compared"], first["different"], first["max_abs"]) == (32, 1, 2)
    assert "first divergence: tensor max in tvm: 1 of 32 values differ" in parity.to_table(found)


@pytest.mark.parametrize(
    ("backend", "steps", "equal"),
    [
        pytest.param("onnxruntime", 1, True, id="one-step"),
        pytest.param("onnxruntime", 2, False, id="two-steps"),
        pytest.param("tvm", 1, False, id="tvm-is-exact"),
    ],
)
def test_average_pooling_in_onnxruntime_may_miss_by_one(
    backend: str, steps: int, equal: bool
) -> None:
    assert judged(Trace(backend, "all", changed(mean=steps))).equal == equal


def test_what_depends_on_an_average_is_known() -> None:
    assert parity.depends_on_average(GRAPH) == {"mean", "after", "y"}


def test_float_kernels_may_miss_one_value_in_ten_thousand() -> None:
    one = judged(Trace("onnxruntime", "disabled", changed(codes=1), FLOAT_KERNELS))
    assert one.equal  # a network of few values may have one
    assert "within 1 step" in parity.to_table(one)
    two = judged(Trace("onnxruntime", "disabled", changed(codes=1, max=1), FLOAT_KERNELS))
    assert not two.equal
    far = judged(Trace("onnxruntime", "disabled", changed(codes=2), FLOAT_KERNELS))
    assert not far.equal


def test_several_inputs_are_counted_together() -> None:
    runs = [
        parity.compare(GRAPH, EXPECTED, Trace("tvm", "", codes))
        for codes in (changed(), changed(max=3), changed(max=1))
    ]
    found = parity.gather(GRAPH, runs, [], {})
    (worst,) = [c for c in found.comparisons if c.tensor == "max"]
    assert (worst.compared, worst.different, worst.max_abs) == (96, 2, 3)


def test_an_absent_program_is_told() -> None:
    found = judged(Trace("torch", "", changed()), {"tvm": "does not run here"})
    assert found.equal
    assert parity.to_json(found)["not_run"] == {"tvm": "does not run here"}
    assert "not run: tvm: does not run here" in parity.to_table(found)


def test_a_tensor_inside_a_kernel_is_told() -> None:
    codes = {name: tensor for name, tensor in changed().items() if name != "max"}
    found = judged(Trace("tvm", "", codes))
    assert found.equal
    assert parity.to_json(found)["inside_kernels"] == {"tvm": ["max"]}
    assert "3 of 4" in parity.to_table(found)
    with pytest.raises(AssertionError, match="hides"):
        judged(Trace("tvm", "", {"codes": codes["codes"]}))
