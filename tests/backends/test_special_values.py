"""NaN, infinities and huge numbers at a network's input: every program makes the same codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.ort.program import OrtProgram
from gmpq.backends.ort.session import LEVELS, Options
from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.open import Unavailable, open_compiled
from gmpq.backends.tvm.target import find
from gmpq.export.onnx import to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import Dequantize, Graph, IntGraph, QParams, Quantize, Value

LARGEST = np.finfo(np.float32).max
VALUES = (np.nan, -np.nan, np.inf, -np.inf, LARGEST, -LARGEST, 2e7, -2e7, 1e-45, 0.0, -0.0, 0.5)
SHAPE = (1, 3, 2, 32)  # whole vectors, and lanes of any value
ENCODINGS = {
    "centred": (QParams.full(0.05, 128, 8), (0, 0, 255, 0, 255, 0, 255, 0, 128, 128, 128, 138)),
    "narrow": (QParams(0.25, 3, 4, 2, 14), (2, 2, 14, 2, 14, 2, 14, 2, 3, 3, 3, 5)),
    "unsigned": (QParams.full(0.05, 0, 8), (0, 0, 255, 0, 255, 0, 255, 0, 0, 0, 0, 10)),
}
encodings = pytest.mark.parametrize(("q", "codes"), ENCODINGS.values(), ids=ENCODINGS)
TARGETS = ("native", "x86-64-v3", "arm64", "armv7")


def network(q: QParams) -> IntGraph:
    values = (Value("x", SHAPE), Value("codes", SHAPE, q), Value("y", SHAPE))
    nodes = (Quantize("codes", ("x",), "codes"), Dequantize("y", ("codes",), "y"))
    return Graph("ends", ("x",), ("y",), {value.name: value for value in values}, nodes)


def image() -> Tensor:
    return np.resize(np.array(VALUES, np.float32), SHAPE)


def expected(codes: tuple[int, ...]) -> Tensor:
    return np.resize(np.array(codes, np.uint8), SHAPE)


@encodings
def test_reference_torch_and_onnxruntime(q: QParams, codes: tuple[int, ...]) -> None:
    graph, inputs = network(q), {"x": image()}
    model = to_onnx(graph, WeightStorage.INT8)
    found = {
        "reference": reference.run(graph, inputs),
        "torch": TorchCodes(graph).trace(inputs),
        **{
            level.value: OrtProgram.from_model(model, graph, Options(level)).trace(inputs)
            for level in LEVELS
        },
    }
    for name, values in found.items():
        np.testing.assert_array_equal(values["codes"], expected(codes), err_msg=name)


@encodings
@pytest.mark.parametrize("name", TARGETS)
def test_compiled_programs(name: str, q: QParams, codes: tuple[int, ...], tmp_path: Path) -> None:
    target, graph = find(name), network(q)
    match open_compiled(tmp_path, build(graph, target, tmp_path).program, target):
        case Unavailable(reason):
            pytest.skip(reason)
        case compiled:
            found = compiled.trace({"x": image()})
            np.testing.assert_array_equal(found["codes"], expected(codes))
