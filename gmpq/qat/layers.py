"""A layer in training: ``y = norm(conv(x, Q(w)))`` with a learned step per output channel.

``Q`` is LSQ with symmetric codes: Esser et al., ICLR 2020 (arXiv:1902.08153).
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

import torch
from torch import nn
from torch.nn import functional

from gmpq.ir import FloatConv2d, FloatLinear
from gmpq.passes.weights import BIAS_LIMIT, WeightObserver, channel_scales
from gmpq.qat.norm import Norm
from gmpq.qat.quantizers import lsq
from gmpq.qat.quantizers.levels import Levels
from gmpq.qat.quantizers.straight_through import at_least

Layer: TypeAlias = FloatConv2d | FloatLinear

NORM_CODE = 127  # of a batch norm by itself: its scale holds the factor, so biases are fine steps
TINY = 1e-30  # a channel that is all zeros has any unit


class QuantizedLayer(nn.Module):
    """A convolution or linear layer with fake-quantized weights, and the batch norm after it.

    A bias before a batch norm would have no effect, so there is none.
    """

    def __init__(self, node: Layer, weight: torch.Tensor, bits: int) -> None:
        """Make the layer ``node`` of ``weight``, which no batch norm has been folded into."""
        super().__init__()
        self.node, self.bits = node, bits
        self.levels = Levels.symmetric(bits)
        rows = weight.reshape(len(weight), -1).numpy()
        scales = torch.from_numpy(channel_scales(rows, bits, WeightObserver.MSE))
        self.weight = nn.Parameter(weight.clone())
        self.step = nn.Parameter(scales.clamp(min=lsq.SMALLEST_STEP))
        self.bias: nn.Parameter | None = None
        self.norm: Norm | None = None

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return the real output [N, O, ...] of codes ``x`` [N, C, ...] in steps of ``scale``."""
        y = apply_layer(self.node, x, self.quantized_weight()).float()
        if not self.training:
            step, factor, shift = self.affine()
            return fold(y, factor, shift, scale * (step * factor).abs().float())
        if self.norm is not None:
            normal: torch.Tensor = self.norm(y)
            return normal
        return y + self._bias().reshape(1, -1, *[1] * (y.ndim - 2))

    def quantized_weight(self) -> torch.Tensor:
        """Return the weight [O, I, ...] in whole steps."""
        count = self.weight[0].numel()
        return lsq.quantize(self.weight, self._steps(), self.levels, count)

    @torch.no_grad()
    def codes(self) -> torch.Tensor:
        """Return the codes of the weight [O, I, ...], as float32."""
        return self.levels.nearest(self.weight / at_least(self._steps(), lsq.SMALLEST_STEP))

    @torch.no_grad()
    def affine(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the step [O] of the codes, and the factor [O] and shift [O] after their sums."""
        step = at_least(self.step, lsq.SMALLEST_STEP)
        if self.norm is not None:
            return step, *self.norm.affine()
        return step, torch.ones_like(step).double(), self._bias().double()

    def _bias(self) -> torch.Tensor:
        assert self.bias is not None, f"{self.node.name} has a norm or a bias"
        return self.bias

    def _steps(self) -> torch.Tensor:
        return self.step.reshape(-1, *[1] * (self.weight.ndim - 1))


class LoneNorm(nn.Module):
    """A batch norm that no layer could absorb: a convolution of one code per channel."""

    def __init__(self, norm: Norm) -> None:
        """Make the layer of ``norm``."""
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return the normalized ``x`` [N, C, ...], codes in steps of ``scale`` []."""
        if self.training:
            normal: torch.Tensor = self.norm(x)
            return normal
        factor, shift = self.norm.affine()
        return fold(x, factor, shift, scale * (factor.abs() / NORM_CODE).float())


def fold(
    sums: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor, unit: torch.Tensor
) -> torch.Tensor:
    """Return ``factor * sums + shift`` with the shift [C] in whole steps of ``unit`` [C].

    So the integer graph holds it, as an int32 bias in steps of its accumulator; what would not fit
    there is in steps that do.
    """
    shape = [1, -1, *[1] * (sums.ndim - 2)]
    steps = torch.maximum(unit.double(), shift.abs() / BIAS_LIMIT).clamp(min=TINY)
    rounded = torch.round(shift / steps) * steps
    return sums * factor.float().reshape(shape) + rounded.float().reshape(shape)


def apply_layer(node: Layer, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return a layer's sums of products [N, O, ...] of ``x`` [N, C, ...], without its bias."""
    match node:
        case FloatConv2d(window=window, groups=groups):
            top, left, bottom, right = window.padding
            even = (top, left) == (bottom, right)
            padded = x if even else functional.pad(x, [left, right, top, bottom])
            padding = (top, left) if even else (0, 0)
            return functional.conv2d(
                padded, weight, None, window.stride, padding, window.dilation, groups
            )
        case FloatLinear():
            return functional.linear(x, weight)
        case _:
            assert_never(node)
