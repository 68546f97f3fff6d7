"""The float baseline computes what the float graph computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gmpq.backends.ort.float_baseline import to_float_onnx
from gmpq.backends.torch_float import run_float
from gmpq.lower import lower

SHAPE = (1, 4, 12, 10)


class Join(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 1)
        self.b = nn.Conv2d(4, 4, (3, 1), padding=(1, 0), dilation=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x), self.b(x)
        return torch.cat([a + b, a], 1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(480, 7), nn.Softmax(1)),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "prelu": lambda: nn.PReLU(4),
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "max": lambda: nn.MaxPool2d(3, 2, 1),
    "max-ceil": lambda: nn.MaxPool2d(2, 3, ceil_mode=True),
    "average": lambda: nn.AvgPool2d(2),
    "average-counted": lambda: nn.AvgPool2d(3, 2, 1),
    "average-not-counted": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average-ceil": lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
    "global": lambda: nn.AdaptiveAvgPool2d(1),
    "pad": lambda: nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Upsample(scale_factor=2)),
    "upsample": lambda: nn.Upsample(scale_factor=2),
    "join": Join,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_agrees_with_the_float_graph(name: str) -> None:
    torch.manual_seed(0)
    graph = lower(NETWORKS[name](), SHAPE, name)
    image = np.random.default_rng(0).normal(scale=3, size=SHAPE).astype(np.float32)
    (source,) = graph.inputs
    found = dict(run_float(graph, {source: torch.from_numpy(image)}))
    model = to_float_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for output, written in zip(graph.outputs, session.run(None, {source: image}), strict=True):
        np.testing.assert_allclose(written, found[output].numpy(), rtol=1e-5, atol=1e-5)
