"""A line for what calibration cannot teach, and none for what it can."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from gmpq.accuracy.advice import calibration_warnings
from gmpq.calib.collect import collect
from gmpq.inputs.images import Preprocessing
from gmpq.ir import FloatGraph
from tests.support.float_graphs import RELU, FloatDraft, images, uniform

PLAIN = Preprocessing((3, 9, 8), (0.0,) * 3, (1.0,) * 3)
IMAGENET = Preprocessing((3, 9, 8), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def warnings(graph: FloatGraph, data: torch.Tensor, how: Preprocessing = PLAIN) -> tuple[str, ...]:
    return calibration_warnings(graph, uniform(graph, 8, 8), collect(graph, [data]), how)


def chain() -> FloatGraph:
    draft = FloatDraft()
    draft.act("relu", draft.conv("conv", "input", 4), RELU)
    draft.conv("last", "relu", 4)
    return draft.graph("last")


def test_images_that_differ_are_right() -> None:
    assert warnings(chain(), images((1, 3, 9, 8), 6)) == ()
    assert warnings(chain(), images((1, 3, 9, 8), 6), IMAGENET) == ()


@pytest.mark.parametrize("number", [0.0, 0.5, -3.0])
def test_images_of_one_number_are_told_once(number: float) -> None:
    (line,) = warnings(chain(), torch.full((4, 3, 9, 8), number))
    assert line.startswith(f"input 'input' is {number:g} everywhere in all 4 calibration images")


def test_tiny_values_are_told() -> None:
    (line,) = warnings(chain(), images((1, 3, 9, 8), 4) * 1e-9)
    assert "'input'" in line
    assert "less than 8-bit codes can follow (2e-07): scale the images" in line


@pytest.mark.parametrize("factor", [60.0, 0.01], ids=["0-to-255", "dim"])
def test_images_unlike_photographs_are_told(factor: float) -> None:
    data = images((1, 3, 9, 8), 4) * factor
    (line,) = warnings(chain(), data, IMAGENET)
    assert "while photographs span -2.12 to 2.64 by model.input's mean and std" in line
    assert warnings(chain(), data) == ()  # where nobody said what inputs are


def test_a_value_that_never_changes_is_told() -> None:
    draft = FloatDraft()
    draft.act("first", draft.conv("conv", "input", 4), RELU)
    draft.act("dead", draft.conv("negative", "first", 4), RELU)
    draft.conv("last", "dead", 4)
    graph = with_bias(draft.graph("last"), "negative", -1e3)
    (line,) = warnings(graph, images((1, 3, 9, 8), 4))
    assert line.startswith("'dead' is 0 on all 4 calibration images")


def with_bias(graph: FloatGraph, name: str, bias: float) -> FloatGraph:
    """Return ``graph`` after setting the biases of one layer."""
    (layer,) = (node for node in graph.nodes if node.name == name)
    layer.bias[:] = bias  # type: ignore[union-attr]
    return graph


def scaled(graph: FloatGraph, name: str, factor: float) -> FloatGraph:
    """Return ``graph`` after scaling the output of one layer."""
    (layer,) = (node for node in graph.nodes if node.name == name)
    layer.weight[:] *= np.float32(factor)  # type: ignore[union-attr]
    layer.bias[:] *= np.float32(factor)  # type: ignore[union-attr]
    return graph


def stream(*, read: bool) -> FloatGraph:
    """Return a sum of a narrow value and one of a hundred times its range."""
    draft = FloatDraft()
    draft.conv("narrow", "input", 4)
    draft.conv("inner", "narrow" if read else "input", 4)
    draft.conv("wide", "inner", 4)
    draft.add("sum", "narrow", "wide")
    draft.conv("last", "sum", 4)
    return scaled(draft.graph("last"), "wide", 1e3)


def test_a_stream_that_grows_is_told_where_its_start_is_read() -> None:
    (line,) = warnings(stream(read=True), images((1, 3, 9, 8), 4))
    assert line.startswith("'narrow' spans ")
    assert re.search(r"shares its scale with '(wide|sum)', which spans \d{2,} times as much", line)
    assert warnings(stream(read=False), images((1, 3, 9, 8), 4)) == ()  # the sum loses nothing


@pytest.mark.parametrize("last", [True, False], ids=["output", "inside"])
def test_what_is_joined_inside_shares_a_scale(last: bool) -> None:
    draft = FloatDraft()
    joined = draft.concat(
        "joined", draft.conv("narrow", "input", 4), draft.conv("wide", "input", 4)
    )
    graph = draft.graph(joined if last else draft.conv("after", joined, 4))
    found = warnings(scaled(graph, "wide", 1e3), images((1, 3, 9, 8), 4))
    assert [line.startswith("'narrow' spans ") for line in found] == [True] * (not last)
