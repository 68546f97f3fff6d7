"""The output that labels judge is the first of shape [N, classes], in graphs and in modules."""

from __future__ import annotations

import pytest
import torch

from gmpq.errors import LoweringError
from gmpq.ir import FloatGraph, Graph, Value
from gmpq.training.scores import class_scores, scores_of

SHAPES = {"features": (1, 8, 4, 4), "logit": (1, 1), "scores": (1, 5), "embedding": (1, 64)}


def graph(*outputs: str) -> FloatGraph:
    values = {name: Value(name, SHAPES[name]) for name in outputs}
    return Graph("net", (), outputs, values, ())


def test_the_first_output_of_two_axes_holds_scores() -> None:
    assert scores_of(graph("features", "logit", "scores", "embedding")) == "scores"
    result = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    assert class_scores([{"nested": result}]) is result["scores"]
    assert class_scores(result["scores"]) is result["scores"]


def test_a_network_without_scores_is_refused_with_what_it_returns() -> None:
    with pytest.raises(LoweringError, match=r"net: returns 'features' \[1, 8, 4, 4\]: training"):
        scores_of(graph("features"))
    assert class_scores((torch.zeros(1, 8, 4, 4), None)) is None
