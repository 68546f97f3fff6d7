"""PACT: ``q(x) = step * round(clamp(x, 0, a) / step)``, ``step = a / (2^b - 1)``, learned ``a``.

Choi et al., PACT: Parameterized Clipping Activation for Quantized Neural Networks, 2018
(https://arxiv.org/abs/1805.06085), as GMPQ and HAQ write it: the gradient of ``a`` is 1 where
``x > a`` and 0 elsewhere, since the step is not differentiated.
"""

from __future__ import annotations

import torch
from torch import nn

from gmpq.qat.quantizers.levels import Levels
from gmpq.qat.quantizers.lsq import SMALLEST_STEP
from gmpq.qat.quantizers.straight_through import at_least, replace_forward

FIRST_CLIP = 6.0


class Pact(nn.Module):
    """PACT of an activation with one clip.

    The signed variant clips to ``[-a, a]`` with ``step = a / (2^(b-1) - 1)``; the gradient of ``a``
    is then -1 where ``x < -a``. One signed bit is the pair ``-a, a``.
    """

    def __init__(self, bits: int, signed: bool = False) -> None:
        """Make a quantizer of ``bits`` whose clip is 6."""
        super().__init__()
        self.bits, self.signed = bits, signed
        self.levels = Levels.symmetric(bits) if signed else Levels.unsigned(bits)
        self.clip = nn.Parameter(torch.tensor(FIRST_CLIP))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, of any shape, clipped and in whole steps."""
        return quantize(x, self.clip / self.levels.high, self.levels)


def quantize(x: torch.Tensor, step: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Return ``step * round(clamp(x / step, low, high))`` of any shape, with PACT's gradients.

    Args:
        x: what to quantize.
        step: the distance of two codes; it gets a gradient from what is clipped alone.
        levels: the codes that occur.
    """
    step = at_least(step, SMALLEST_STEP)
    top, bottom = step * levels.high, step * levels.low
    clipped = torch.where(x > top, top, torch.where(x < bottom, bottom, x))
    fixed = step.detach()
    return replace_forward(clipped, levels.nearest(x / fixed) * fixed)
