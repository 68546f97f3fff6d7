"""The optimizer: which parameters decay, how fast scales may move, and the rate over time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim import Optimizer

from gmpq.qat.layers import QuantizedLayer
from gmpq.qat.options import TrainOptions
from gmpq.qat.scales import ActivationScale

LARGEST_MOVE = 0.1  # of a scale in one step: few elements share the scale of a network's output,
# and one step of SGD could carry it through zero


def make_optimizer(network: nn.Module, options: TrainOptions) -> Optimizer:
    """Return the optimizer of ``network``; only weights of layers decay."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if options.optimizer == "adam":
        return torch.optim.Adam(groups, lr=options.lr)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)


def rate(step: int, steps_per_epoch: int, options: TrainOptions) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine down to 0."""
    warm = min(options.warmup, options.epochs / 2) * steps_per_epoch
    if step < warm:
        return options.lr * (step + 1) / (warm + 1)
    total = max(options.epochs * steps_per_epoch - warm, 1)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min((step - warm) / total, 1.0)))


@torch.no_grad()
def advance(optimizer: Optimizer, network: nn.Module, rate: float) -> None:
    """Make one step at ``rate``, in which no scale moves by more than a tenth."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    scales = list(_scales(network))
    before = [scale.detach().clone() for scale in scales]
    optimizer.step()
    for scale, old in zip(scales, before, strict=True):
        reach = old.abs() * LARGEST_MOVE
        scale.copy_(torch.minimum(torch.maximum(scale, old - reach), old + reach))


def _scales(network: nn.Module) -> Iterator[nn.Parameter]:
    for part in network.modules():
        if isinstance(part, QuantizedLayer):
            yield part.step
        elif isinstance(part, ActivationScale):
            yield part.trained
