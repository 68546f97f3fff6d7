from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from onnx import numpy_helper

from gmpq.backends.ort.fusion import Fallback, FusionReport, report
from gmpq.backends.ort.session import Level
from gmpq.export.onnx import to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import Conv2d, IntGraph, Linear
from tests.support.builders import residual
from tests.support.strategies import graphs


@settings(max_examples=60)
@given(graph=graphs())
def test_every_layer_runs_in_integers(graph: IntGraph) -> None:
    for storage in WeightStorage:
        found = report(to_onnx(graph, storage), graph)
        counts = dict(found.operators)
        assert found.fallbacks == ()
        assert _counts(graph, Conv2d) == _found(counts, "ConvInteger", "QLinearConv")
        assert _counts(graph, Linear) == _found(counts, "MatMulInteger", "QGemm")


def _counts(graph: IntGraph, kind: type[Conv2d] | type[Linear]) -> tuple[int, int]:
    """Return how many layers write float32, and codes."""
    layers = [node for node in graph.nodes if isinstance(node, kind)]
    real = sum(graph.values[node.output].q is None for node in layers)
    return real, len(layers) - real


def _found(operators: dict[str, int], real: str, coded: str) -> tuple[int, int]:
    return operators.get(real, 0), operators.get(coded, 0)


def test_a_layer_in_float_is_named() -> None:
    graph = residual()
    model = to_onnx(graph)
    scale = next(t for t in model.graph.initializer if t.name == "block.conv:bias-scale")
    wrong = numpy_helper.to_array(scale) * np.float32(1.5)
    scale.CopyFrom(numpy_helper.from_array(wrong, scale.name))
    found = report(model, graph)
    assert [str(fallback) for fallback in found.fallbacks] == ["block.conv: Conv runs in float"]


@pytest.mark.parametrize("level", [Level.DISABLED, Level.BASIC], ids=lambda level: level.value)
def test_without_fusion_all_run_in_float(level: Level) -> None:
    graph = residual()
    expected = (Fallback("block.conv", "Conv"), Fallback("block.add", "Add"))
    assert expected == report(to_onnx(graph), graph, level).fallbacks


def test_the_report_is_plain_json() -> None:
    found = FusionReport((("QLinearConv", 2), ("Conv", 1)), (Fallback("fc", "Gemm"),))
    expected = {
        "operators": {"QLinearConv": 2, "Conv": 1},
        "fallbacks": [{"layer": "fc", "operator": "Gemm"}],
    }
    assert expected == json.loads(json.dumps(found.to_json()))
