from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gmpq.calib.collect import collect
from gmpq.errors import CalibrationError
from gmpq.ir import FloatGraph, FloatLinear
from tests.support.float_graphs import RELU, FloatDraft, float_values, images, random_float_graph


def _linear() -> FloatGraph:
    draft = FloatDraft(shape=(1, 4))
    draft.act("relu", draft.linear("fc", "input", 3), RELU)
    return draft.graph("relu")


@pytest.mark.parametrize("seed", range(5))
def test_every_value_is_seen_once(seed: int) -> None:
    graph = random_float_graph(seed, 4)
    data = images(graph.values["input"].shape, 10)
    found = collect(graph, data.split(4))
    assert found.keys() == set(graph.values)
    for name, expected in float_values(graph, data).items():
        statistics = found[name]
        np.testing.assert_allclose(statistics.minimum, expected.min(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(statistics.maximum, expected.max(), rtol=1e-4, atol=1e-5)
        axes = (0, *range(2, expected.ndim))
        np.testing.assert_allclose(statistics.means, expected.mean(axes), rtol=1e-3, atol=1e-5)
        assert (statistics.images, statistics.histogram.counts.sum()) == (10, expected.size)


def test_progress_counts_images_and_batches_are_read_once() -> None:
    seen: list[int] = []
    batches = iter(images((1, 4), 10).split(4))
    collect(_linear(), batches, seen.append)
    assert seen == [4, 4, 2]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        pytest.param(
            torch.zeros(2, 5), r"batch 0 has shape \[2, 5\], the network reads \[N, 4\]", id="shape"
        ),
        pytest.param(torch.zeros(4), r"has shape \[4\], the network reads \[N, 4\]", id="no-batch"),
        pytest.param(torch.zeros(0, 4), r"has shape \[0, 4\]", id="no-image"),
        pytest.param(torch.zeros(2, 4, dtype=torch.uint8), "holds torch.uint8", id="type"),
        pytest.param(torch.full((2, 4), torch.nan), "batch 0 holds nan or inf", id="nan"),
        pytest.param(torch.full((2, 4), torch.inf), "batch 0 holds nan or inf", id="inf"),
        pytest.param(torch.full((2, 4), 3e38), "value 'fc' becomes nan or inf", id="overflow"),
    ],
)
def test_bad_data_is_refused(batch: torch.Tensor, message: str) -> None:
    graph = _linear()
    (fc, relu) = graph.nodes
    assert isinstance(fc, FloatLinear)
    graph = replace(graph, nodes=(replace(fc, weight=np.full((3, 4), 5.0, np.float32)), relu))
    with pytest.raises(CalibrationError, match=message):
        collect(graph, [batch])


def test_no_data_is_refused() -> None:
    with pytest.raises(CalibrationError, match="the calibration set is empty"):
        collect(_linear(), [])
