"""HAQ's uniform weights: ``q(w) = step * round(clamp(w, -T, T) / step)``.

``step = T / (2^(b-1) - 1)``: symmetric and with zero, so that 2 bits have the 3 levels -T, 0, T and
b bits have ``2^b - 1``. The gradient is 1 everywhere, outside the clip too. Wang et al., HAQ, CVPR
2019 (https://github.com/mit-han-lab/haq), used by GMPQ (ICCV 2021); DoReFa without its tanh.
"""

from __future__ import annotations

import torch

from gmpq.qat.quantizers.levels import Levels
from gmpq.qat.quantizers.lsq import SMALLEST_STEP
from gmpq.qat.quantizers.straight_through import replace_forward


def quantize_weight(weight: torch.Tensor, bits: int, limit: torch.Tensor) -> torch.Tensor:
    """Return ``weight`` in whole steps between ``-limit`` and ``limit``; 1 bit is that pair.

    Args:
        weight: of any shape.
        bits: of a code, 1 to 8.
        limit: T, the largest magnitude; broadcasts against ``weight``.
    """
    top = limit.detach().clamp(min=SMALLEST_STEP)
    levels = Levels.symmetric(bits)
    step = top / levels.high
    return replace_forward(weight, levels.nearest(weight / step) * step)


def largest(weight: torch.Tensor) -> torch.Tensor:
    """Return HAQ's limit ``max|w|`` [] of a weight of any shape, without gradient."""
    return weight.detach().abs().amax()
