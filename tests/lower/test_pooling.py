"""Means whose sums of codes exceed int32 are refused where the network is read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmpq.errors import LoweringError
from gmpq.lower import lower

SIDE = 2902  # 2902 x 2902 codes of 255 exceed int32


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.mark.parametrize(
    "pool",
    [nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(SIDE), Mean()],
    ids=["adaptive", "window", "mean"],
)
def test_a_mean_of_too_many_codes(pool: nn.Module) -> None:
    with pytest.raises(LoweringError, match="sums 2902x2902 codes, beyond int32"):
        lower(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), pool), (1, 1, SIDE, SIDE), "net")
