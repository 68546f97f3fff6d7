"""``sum_i share_i pact_i(x)`` in little memory: only ``x`` is kept for the backward pass.

The copies of a large activation, and what autograd would keep of them, are several times the
activation itself; here they are made again, one at a time. The numbers are those of mixing
``gmpq.qat.quantizers.pact``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from gmpq.qat.quantizers.levels import Levels
from gmpq.qat.quantizers.lsq import SMALLEST_STEP


class PactMixture(torch.autograd.Function):
    """The mixture, with PACT's gradients of the input and the clips, and those of the shares."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        shares: torch.Tensor,
        clips: torch.Tensor,
        levels: tuple[Levels, ...],
    ) -> torch.Tensor:
        """Return the mixture of ``x``, of any shape, under ``shares`` [B] and ``clips`` [B]."""
        ctx.save_for_backward(x, shares, clips)
        ctx.levels = levels
        total = torch.zeros_like(x)
        for share, clip, each in zip(shares, clips, levels, strict=True):
            total.add_(_copy(x, clip, each).mul_(share))
        return total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Return the gradients of the input, the shares [B] and the clips [B]."""
        x, shares, clips = ctx.saved_tensors
        towards_x = torch.zeros_like(x)
        towards_shares, towards_clips = torch.zeros_like(shares), torch.zeros_like(clips)
        for index, each in enumerate(ctx.levels):
            top = clips[index].clamp(min=SMALLEST_STEP)
            ratio = each.low / each.high
            above, below = gradient * (x > top), gradient * (x < top * ratio)
            towards_x.add_((gradient - above - below).mul_(shares[index]))
            towards_clips[index] = shares[index] * (above.sum() + ratio * below.sum())
            towards_shares[index] = _copy(x, clips[index], each).mul_(gradient).sum()
        return towards_x, towards_shares, towards_clips, None


def _copy(x: torch.Tensor, clip: torch.Tensor, levels: Levels) -> torch.Tensor:
    step = clip.clamp(min=SMALLEST_STEP) / levels.high
    return levels.nearest(x / step).mul_(step)
