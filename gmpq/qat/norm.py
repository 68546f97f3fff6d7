"""Batch norm whose statistics are those of the whole batch, on however many processes.

``y = gamma * (x - mean) / sqrt(variance + eps) + beta`` over the channels of [N, C, H, W] or
[N, C]. It is the function that folding takes into a layer: ``y = factor * x + shift``. Ioffe and
Szegedy, 2015 (arXiv:1502.03167); over processes as ``torch.nn.SyncBatchNorm``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from gmpq.training.processes import all_sum, world_size

EPSILON = 1e-5
MOMENTUM = 0.1


class Norm(nn.Module):
    """A batch norm that averages over all processes in training."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Make a norm of the running ``mean`` [C] and ``variance`` [C] with gamma 1 and beta 0."""
        super().__init__()
        self.gamma = nn.Parameter(torch.ones_like(mean))
        self.beta = nn.Parameter(torch.zeros_like(mean))
        self.register_buffer("mean", mean.clone())
        self.register_buffer("variance", variance.clone())
        self.momentum = MOMENTUM

    @torch.no_grad()
    def become(self, factor: torch.Tensor, shift: torch.Tensor) -> None:
        """Set gamma and beta so that evaluation computes ``factor * x + shift``, both [C]."""
        self.gamma.copy_(factor * torch.sqrt(self.variance.double() + EPSILON))
        self.beta.copy_(shift + factor * self.mean.double())

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the float64 factor [C] and shift [C] that the norm is in evaluation."""
        factor = self.gamma.detach().double() / torch.sqrt(self.variance.double() + EPSILON)
        return factor, self.beta.detach().double() - factor * self.mean.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized ``x`` [N, C, ...]; in training, by the statistics of the batch."""
        if self.training and world_size() > 1:
            return self._synchronized(x)
        return functional.batch_norm(
            x,
            self.mean,
            self.variance,
            self.gamma,
            self.beta,
            self.training,
            self.momentum,
            EPSILON,
        )

    def _synchronized(self, x: torch.Tensor) -> torch.Tensor:
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = x.numel() // x.shape[1] * world_size()
        mean = all_sum(x.sum(axes)) / count
        centred = x - mean.reshape(shape)
        variance = all_sum((centred * centred).sum(axes)) / count
        with torch.no_grad():
            unbiased = variance * (count / max(count - 1, 1))
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(unbiased, self.momentum)
        scale = self.gamma * torch.rsqrt(variance + EPSILON)
        return centred * scale.reshape(shape) + self.beta.reshape(shape)
