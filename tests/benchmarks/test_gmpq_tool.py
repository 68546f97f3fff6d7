from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, IntGraph
from gmpq.models.random import random_images, randomize
from gmpq.policy import LayerBits
from gmpq.runtime import Network
from versus.baselines.gmpq_tool import is_exact, open_gmpq
from versus.bench import Bench
from versus.subject import Subject


class Residual(nn.Module):
    """An addition that a convolution can absorb."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return (x + self.second(x)).relu().mean((2, 3), keepdim=True).flatten(1)


def subject() -> Subject:
    module = Residual().eval()
    randomize(module, 0, (3, 12, 12))
    images = random_images(4, (3, 12, 12), torch.Generator().manual_seed(0))
    return Subject("residual", module, images)


def test_a_program_with_fused_values_is_exact(tmp_path: Path) -> None:
    found = subject()
    bits = {"first": LayerBits(8, 8), "second": LayerBits(4, 4)}
    bench = Bench(found, tmp_path, tmp_path)
    entry = open_gmpq(bench, found.quantized(bits), "mixed", threads=1)
    entry.run()
    assert entry.exact is True
    assert entry.kernels_used


def test_a_program_of_another_network_is_not_exact(tmp_path: Path) -> None:
    found = subject()
    graph = found.quantized(dict.fromkeys(("first", "second"), LayerBits(8, 8)))
    network = Network(tmp_path, build(graph, find("native"), tmp_path).program)
    assert is_exact(graph, network, found.image)
    assert not is_exact(_with_other_bias(graph), network, found.image)


def _with_other_bias(graph: IntGraph) -> IntGraph:
    first = next(node for node in graph.nodes if isinstance(node, Conv2d))
    bias = (first.weight.bias + 1000).astype(np.int32)
    other = replace(first, weight=replace(first.weight, bias=bias))
    return replace(graph, nodes=tuple(other if n is first else n for n in graph.nodes))
