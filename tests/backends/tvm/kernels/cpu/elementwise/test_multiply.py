"""Products of two tensors: every pair of codes, and gates, halos and vectors of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.ort.program import OrtProgram
from gmpq.backends.ort.session import LEVELS
from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.open import CompiledProgram, Unavailable, open_compiled
from gmpq.backends.tvm.plan.plan import PlanOptions
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import (
    Conv2d,
    GlobalAvgPool,
    IntGraph,
    Lookup,
    Multiply,
    Padding,
    QParams,
    Reshape,
    Silu,
    Window,
)
from tests.support.builders import Q8, chain, weight
from tests.support.single_layers import BASELINE, V3
from tests.support.strategies import random_input

TARGETS = (find("native"), V3, BASELINE, find("arm64"), find("armv7"))


def program(graph: IntGraph, target: Target, folder: Path) -> CompiledProgram:
    """Return a program that shows every value, emulated where it must be."""
    built = build(graph, target, folder, options=PlanOptions(fuse=False)).program
    match open_compiled(folder, built, target):
        case Unavailable(reason):
            pytest.skip(reason)
        case compiled:
            return compiled


def gates(channels: int, batch: int) -> IntGraph:
    """Return products of equal shapes, with gates first and last, with halos, and of vectors."""
    image, pixel = (batch, channels, 5, 3), (batch, channels, 1, 1)
    q4, clipped = QParams.full(0.4, 3, 4), replace(Q8, low=100, high=180)
    conv = Conv2d(
        "conv",
        ("",),
        "",
        weight((channels, channels, 3, 3), 4, q4, Q8),
        Window((3, 3), padding=Padding(1, 1, 1, 1)),
    )
    return chain(
        [
            (Multiply("square", ("codes", "codes"), ""), image, replace(Q8, scale=0.25)),
            (GlobalAvgPool("pool", ("codes",), ""), pixel, Q8),
            (Multiply("first", ("pool", "square"), ""), image, clipped),
            (Multiply("last", ("first", "pool"), ""), image, q4),
            (conv, image, Q8),
            (Multiply("equal", ("conv", "last"), ""), image, replace(Q8, zero_point=7)),
            (GlobalAvgPool("mean", ("",), ""), pixel, Q8),
            (Multiply("pixels", ("mean", "pool"), ""), pixel, Q8),
            (Reshape("flat", ("",), ""), (batch, channels), Q8),
            (Multiply("vector", ("flat", "flat"), ""), (batch, channels), Q8),
        ],
        image,
        Q8,
    )


def all_pairs(factor: float) -> IntGraph:
    """Return the product of every code, by pixel, with every code, by channel."""
    shape, qb = (1, 256, 16, 16), QParams.full(1.0, 100, 8)
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 256, axis=1)
    channel = Lookup("channel", ("codes",), "", table, Silu())
    target = QParams.full(1 / factor, 31, 8)
    return chain(
        [(channel, shape, qb), (Multiply("product", ("codes", "channel"), ""), shape, target)],
        shape,
        QParams.full(1.0, 3, 8),
    )


def pixels() -> np.ndarray:
    codes = np.broadcast_to(np.arange(256.0).reshape(1, 1, 16, 16), (1, 256, 16, 16))
    return (codes - 3).astype(np.float32)


@pytest.mark.parametrize("target", [pytest.param(t, id=t.name) for t in TARGETS])
@pytest.mark.parametrize(("channels", "batch"), [(17, 2), (3, 1)])
def test_programs_equal_the_reference(
    channels: int, batch: int, target: Target, tmp_path: Path
) -> None:
    graph = gates(channels, batch)
    sample = random_input(graph, 0)
    expected = reference.run(graph, sample)
    for name, found in program(graph, target, tmp_path).trace(sample).items():
        np.testing.assert_array_equal(expected[name], found, err_msg=name)


@pytest.mark.parametrize("factor", [1 / 128, 0.0123, 1.7], ids=["ties", "usual", "large"])
def test_all_pairs_of_codes(factor: float, tmp_path: Path) -> None:
    graph, sample = all_pairs(factor), {"x": pixels()}
    expected = reference.run(graph, sample)["product"]
    assert len(np.unique(expected)) > 2
    assert np.array_equal(expected, TorchCodes(graph).trace(sample)["product"])
    for level in LEVELS:
        found = OrtProgram.load(graph, level=level).trace(sample)["product"]
        assert np.array_equal(expected, found), level
    for name, codes in program(graph, find("native"), tmp_path).trace(sample).items():
        assert name != "product" or np.array_equal(expected, codes)
