"""LSQ: ``q(x) = s * round(clamp(x / s, low, high))`` with a learned step ``s``.

Esser et al., Learned Step Size Quantization, ICLR 2020 (https://arxiv.org/abs/1902.08153). The
gradient of ``s`` is scaled by ``1 / sqrt(high * n)`` for the ``n`` elements that one step serves.
Signed weights start from their mean and deviation, as in LIMPQ (ECCV 2022).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from gmpq.qat.quantizers.levels import Levels
from gmpq.qat.quantizers.straight_through import at_least

SMALLEST_STEP = 1e-8  # a step that falls below it stays there until a gradient lifts it


class Lsq(nn.Module):
    """LSQ of a tensor with one step, or one per channel (axis 0).

    Signed codes are ``-2^(b-1) .. 2^(b-1) - 1``, one signed bit is the pair -1, +1; unsigned codes
    are ``0 .. 2^b - 1``. The gradient counts all elements, those of the batch too, as LIMPQ does.
    """

    def __init__(self, bits: int, signed: bool, channels: int | None) -> None:
        """Make a quantizer whose steps are 1 until ``start`` sets them.

        Args:
            bits: of a code, 1 to 8.
            signed: whether codes have a sign.
            channels: how many steps there are along axis 0; None for one step.
        """
        super().__init__()
        self.bits, self.signed = bits, signed
        self.levels = Levels.signed(bits) if signed else Levels.unsigned(bits)
        self.step = nn.Parameter(torch.ones(() if channels is None else (channels,)))

    @torch.no_grad()
    def start(self, x: torch.Tensor) -> None:
        """Set the steps [] or [C] from ``x`` [C, ...]: by deviation if signed, else mean."""
        rows = x.reshape(1 if self.step.ndim == 0 else len(x), -1)
        steps = step_by_mean(rows, self.levels.high)
        if self.signed:
            steps = step_by_deviation(rows, self.bits)
        self.step.copy_(steps.reshape(self.step.shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, of any shape, in whole steps."""
        step = self.step.reshape(-1, *[1] * (x.ndim - 1)) if self.step.ndim else self.step
        return quantize(x, step, self.levels, x.numel() // self.step.numel())


def quantize(x: torch.Tensor, step: torch.Tensor, levels: Levels, count: int) -> torch.Tensor:
    """Return ``step * round(clamp(x / step, low, high))`` in the shape of ``x``.

    Args:
        x: what to quantize.
        step: broadcasts against ``x``.
        levels: the codes that occur.
        count: how many elements of ``x`` one step serves, for its gradient.
    """
    largest = max(levels.high, -levels.low, 1)
    factor = 1 / math.sqrt(largest * max(count, 1))
    quantized: torch.Tensor = _Quantize.apply(x, at_least(step, SMALLEST_STEP), levels, factor)  # type: ignore[no-untyped-call]
    return quantized


class _Quantize(torch.autograd.Function):
    """The gradients of LSQ, equations 3 and 5 of arXiv:1902.08153, in one pass over the tensor."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, step: torch.Tensor, levels: Levels, factor: float
    ) -> torch.Tensor:
        steps = x / step
        codes = levels.nearest(steps)
        ctx.save_for_backward(steps, codes)
        ctx.levels, ctx.factor, ctx.shape = levels, factor, step.shape
        return codes * step

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (steps, codes), (gradient,) = ctx.saved_tensors, gradients
        inside = (steps >= ctx.levels.low) & (steps <= ctx.levels.high)
        of_step = gradient * torch.where(inside, codes - steps, codes)
        return gradient * inside, of_step.sum_to_size(ctx.shape) * ctx.factor, None, None


def step_by_mean(rows: torch.Tensor, high: int) -> torch.Tensor:
    """Return LSQ's first step of each row of ``rows`` [R, n]: ``2 * mean|x| / sqrt(high)``."""
    steps = 2 * rows.abs().mean(dim=1) / math.sqrt(high)
    return steps.clamp(min=SMALLEST_STEP)


def step_by_deviation(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """Return LIMPQ's first step of each row [R, n]: ``max(|m - 3 d|, |m + 3 d|) / 2^(b-1)``.

    ``m`` and ``d`` are the row's mean and standard deviation; a row of one element is its range.
    """
    mean = rows.mean(dim=1)
    reach = 3 * rows.std(dim=1, correction=0)
    steps = torch.maximum((mean - reach).abs(), (mean + reach).abs()) / (1 << (bits - 1))
    return steps.clamp(min=SMALLEST_STEP)
