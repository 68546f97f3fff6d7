"""The losses on logits and maps; cross entropy is torch's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gmpq.search.differentiable.attribution import normalize


def attribution_loss(
    student: torch.Tensor, teacher: torch.Tensor, power: torch.Tensor
) -> torch.Tensor:
    """Return ``mean((student / |student| - teacher^p / |teacher^p|)^2)`` of maps [N, H, W].

    For maps that are not empty this is ``2 (1 - cos) / (H W)``.
    """
    return (normalize(student) - normalize(sharpen(teacher, power))).square().mean()


def sharpen(maps: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Return ``maps`` [N, H, W] to a power, each over its largest value so that none overflows."""
    largest = maps.amax((1, 2), keepdim=True)
    scaled = maps / torch.where(largest > 0, largest, 1.0)
    return scaled.pow(power)


def complexity_loss(
    macs: Sequence[int], weight_bits: torch.Tensor, activation_bits: torch.Tensor
) -> torch.Tensor:
    """Return ``sum(m w a) / m_1`` [] of expected bits [L]: BOPs over the first layer's MACs."""
    relative = weight_bits.new_tensor([count / macs[0] for count in macs])
    return (relative * weight_bits * activation_bits).sum()
