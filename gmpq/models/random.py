"""Random weights that behave like trained ones, for measurements and tests without a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional

Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d

SCALES = (1, 2, 4, 8, 16)  # the sizes of the patches in random images: photographs are smooth


def randomize(module: nn.Module, seed: int, shape: tuple[int, int, int] = (3, 64, 64)) -> None:
    """Give ``module`` random weights under which the activations of every layer are well scaled.

    Weights are normal with He's deviation, times a factor per output channel, since trained
    channels differ in range; scales and shifts of batch norms vary, and their statistics are
    those of one pass over random images of ``shape`` [C, H, W]. The same seed gives the same
    weights; torch's own random state is neither used nor changed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            _fill(part, generator)
        _estimate_statistics(module, random_images(8, shape, generator))


def random_images(
    count: int, shape: tuple[int, int, int], generator: torch.Generator
) -> torch.Tensor:
    """Return images [count, C, H, W] of mean 0 and deviation 1 with detail at all scales."""
    channels, height, width = shape
    total = torch.zeros(count, *shape)
    for scale in SCALES:
        size = (max(1, height // scale), max(1, width // scale))
        noise = torch.randn(count, channels, *size, generator=generator)
        total += scale * functional.interpolate(noise, (height, width), mode="bilinear")
    return (total - total.mean()) / total.std()


def _fill(part: nn.Module, generator: torch.Generator) -> None:
    match part:
        case nn.Conv2d() | nn.Linear():
            _fill_layer(part, generator)
        case nn.BatchNorm1d() | nn.BatchNorm2d() if part.affine:
            part.weight.uniform_(0.6, 1.4, generator=generator)
            part.bias.normal_(0.0, 0.3, generator=generator)
        case nn.PReLU():
            part.weight.uniform_(0.05, 0.4, generator=generator)


def _fill_layer(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    fan_in = layer.weight[0].numel()
    layer.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)
    factors = torch.empty(len(layer.weight)).uniform_(0.5, 1.5, generator=generator)
    layer.weight.mul_(factors.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.normal_(0.0, 0.1, generator=generator)


def _estimate_statistics(module: nn.Module, images: torch.Tensor) -> None:
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    with _averaging(module, norms):
        module(images)
    for norm in norms:
        if norm.running_var is not None:
            # a channel that these few images hardly move must not be blown up on others
            norm.running_var.clamp_(min=float(norm.running_var.mean()) / 100)


@contextmanager
def _averaging(module: nn.Module, norms: list[Norm]) -> Iterator[None]:
    """Let batch norms take the statistics of what they see; everything else is in evaluation."""
    training = [part for part in module.modules() if part.training]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches since the reset
        norm.train()
    try:
        yield
    finally:
        module.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part in training:
            part.training = True
