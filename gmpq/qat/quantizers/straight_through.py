"""Operations whose gradient is another function's: ``y = f(x)`` forward, ``dy/dx`` as stated."""

from __future__ import annotations

import torch


def replace_forward(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return ``value``, exactly, with the gradient 1 towards ``x`` and none towards ``value``.

    Both have one shape. ``x + (value - x)`` would round; a difference of ``x`` with itself does
    not.
    """
    return value.detach() + (x - x.detach())


def at_least(x: torch.Tensor, low: float) -> torch.Tensor:
    """Return ``max(x, low)`` in the shape of ``x`` with the gradient 1: what fell can rise."""
    return replace_forward(x, x.clamp(min=low))
