"""Outputs by position: number, order, names, shapes and bits are the reference's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gmpq.artifact import parity
from gmpq.artifact.output_parity import OutputComparison, Returned, compare_outputs
from gmpq.backends.base import Tensor
from gmpq.ir import Dequantize, Graph, IntGraph, QParams, Quantize, Reshape, Softmax, Value
from gmpq.runtime import UNWRITTEN

SHAPE = (1, 4)
Q = QParams.full(0.1, 3, 8)


def graph() -> IntGraph:
    """Return a network with the outputs "codes", "again" (equal ones) and "chances"."""
    values = [Value("x", SHAPE), Value("x.codes", SHAPE, Q), Value("copy", SHAPE, Q)]
    values += [Value(name, SHAPE) for name in ("codes", "again", "chances")]
    nodes = (
        Quantize("quantize", ("x",), "x.codes"),
        Dequantize("codes", ("x.codes",), "codes"),
        Reshape("copy", ("x.codes",), "copy"),
        Dequantize("again", ("copy",), "again"),
        Softmax("chances", ("codes",), "chances"),
    )
    outputs = ("codes", "again", "chances")
    return Graph("net", ("x",), outputs, {value.name: value for value in values}, nodes)


GRAPH = graph()
REALS = np.array([[0.1, -0.2, 0.0, 1.5]], np.float32)
CHANCES = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
MINUS = np.array([[1, 1, -1, 1]], np.float32)
EXPECTED: dict[str, Tensor] = {"codes": REALS, "again": REALS, "chances": CHANCES}


def compared(*outputs: tuple[str, Tensor]) -> list[OutputComparison]:
    return compare_outputs(GRAPH, EXPECTED, Returned("tvm", "shipped", outputs))


def with_other(name: str, array: Tensor) -> list[OutputComparison]:
    return compared(*((key, array if key == name else x) for key, x in EXPECTED.items()))


def moved(array: Tensor, ulps: int) -> Tensor:
    """Return ``array`` with its last element moved by units in the last place."""
    bits = array.copy().view(np.uint32)
    bits[0, -1] += ulps
    return bits.view(np.float32)


def unwritten(array: Tensor) -> Tensor:
    return np.full(array.shape, UNWRITTEN, np.uint32).view(np.float32)


def test_equal_outputs_are_equal() -> None:
    found = compared(*EXPECTED.items())
    assert all(output.equal for output in found)
    assert [(output.position, output.output) for output in found] == [
        (0, "codes"),
        (1, "again"),
        (2, "chances"),
    ]


@pytest.mark.parametrize(
    ("name", "found", "told"),
    [
        pytest.param("codes", 2 * REALS, "3 of 4 values differ, by at most 1.5", id="doubled"),
        pytest.param("again", moved(REALS, 1), "1 of 4 values differ", id="one-bit"),
        pytest.param("codes", REALS * MINUS, "1 of 4 values differ", id="minus-zero"),
        pytest.param("codes", unwritten(REALS), "4 values are not written", id="unwritten"),
        pytest.param("chances", unwritten(CHANCES), "4 values are not written", id="softmax"),
        pytest.param("chances", CHANCES * np.nan, "4 of 4 values differ", id="nan"),
        pytest.param("chances", CHANCES[:, ::-1], "4 of 4 values differ", id="reversed"),
        pytest.param("codes", REALS[:, :3], "is float32 [1, 3], not float32 [1, 4]", id="shape"),
        pytest.param("codes", REALS.astype(np.float64), "is float64 [1, 4]", id="type"),
    ],
)
def test_a_difference_is_told(name: str, found: Tensor, told: str) -> None:
    wrong = [output for output in with_other(name, found) if not output.equal]
    assert [output.output for output in wrong] == [name]
    assert told in str(wrong[0])


def test_every_program_has_its_own_exp() -> None:
    assert all(output.equal for output in with_other("chances", moved(CHANCES, 8)))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        pytest.param(("codes", "again"), "output 2 'chances' of tvm shipped: is missing", id="few"),
        pytest.param(
            ("codes", "again", "chances", "more"),
            "output 3 'more' of tvm shipped: is not an output of the network",
            id="many",
        ),
        pytest.param(("again", "codes", "chances"), "output 0 'codes'", id="order"),
        pytest.param(("logits", "again", "chances"), "is called 'logits'", id="name"),
    ],
)
def test_number_and_names_are_compared(names: tuple[str, ...], told: str) -> None:
    found = compared(*((name, EXPECTED.get(name, REALS)) for name in names))
    wrong = [output for output in found if not output.equal]
    assert told in str(wrong[0])


def test_several_inputs_are_counted_together() -> None:
    runs = [compared(*EXPECTED.items()), with_other("codes", 2 * REALS), with_other("codes", REALS)]
    found = parity.gather(GRAPH, [], runs, {})
    assert not found.equal
    assert [output.compared for output in found.outputs] == [12, 12, 12]
    assert [output.different for output in found.outputs] == [3, 0, 0]
    assert found.first_divergence == replace(runs[1][0], compared=12)
    document = parity.to_json(found)
    assert (document["verdict"], document["outputs"][0]["different"]) == ("different", 3)
    assert "first divergence: output 0 'codes' of tvm shipped" in parity.to_table(found)
