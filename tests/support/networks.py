"""Small PyTorch modules for tests, and the comparison of a module with its graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gmpq.ir import FloatGraph, Shape
from gmpq.lower import lower, run_float
from gmpq.lower.outputs import tensors
from gmpq.models.random import randomize


class Call(nn.Module):
    """A network that is one function of its input, with the layers that it uses as children."""

    def __init__(self, function: Callable[..., object], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x, *self.layers)


def image(shape: Shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def outputs(graph: FloatGraph, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the outputs of ``graph`` for ``x``; every value must have the shape it declares."""
    tensors = dict(run_float(graph, {"input": x}))
    for name, tensor in tensors.items():
        assert tuple(tensor.shape[1:]) == graph.values[name].shape[1:], name
    return [tensors[name] for name in graph.outputs]


def check_equal(module: nn.Module, shape: Shape) -> FloatGraph:
    """Return the graph of ``module``, after showing that both compute the same."""
    module.eval()
    graph = lower(module, shape, "net")
    x = image(shape)
    with torch.no_grad():
        result = module(x.clone())
    for want, got in zip(tensors(result), outputs(graph, x), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * max(1.0, float(want.abs().max())))
    return graph


def randomized(module: nn.Module, shape: Shape = (1, 3, 64, 64), seed: int = 0) -> nn.Module:
    """Return ``module`` with random weights and varied batch norms."""
    randomize(module, seed, (shape[1], shape[2], shape[3]))
    return module.eval()


def kinds(module: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """Return the names of the nodes of ``module``, which computes the same as its graph."""
    return [type(node).__name__ for node in check_equal(module, shape).nodes]
