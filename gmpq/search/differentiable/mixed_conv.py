"""The mixed convolution: ``conv(sum_i softmax(a)_i Q_i(x), sum_j softmax(w)_j Q_j(W))``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call

from gmpq.search.differentiable.quantizers import Quantizers
from gmpq.search.differentiable.settings import Space

START = 0.01  # of all logits


class MixedConv2d(nn.Module):
    """A convolution whose weight and input are mixtures of quantized copies.

    It costs one convolution, and one elementwise quantizer per candidate. ``conv`` keeps its own
    forward, so padding of any kind, groups and subclasses work as before.
    """

    def __init__(
        self, conv: nn.Conv2d, space: Space, quantizers: Quantizers, *, signed: bool
    ) -> None:
        super().__init__()
        self.conv = conv
        self.weights = quantizers.weights(space.weights)
        self.activations = quantizers.activations(space.activations, signed)
        self.weight_logits = nn.Parameter(torch.full((len(space.weights),), START))
        self.activation_logits = nn.Parameter(torch.full((len(space.activations),), START))
        self.register_buffer("weight_bits", _floats(space.weights), persistent=False)
        self.register_buffer("activation_bits", _floats(space.activations), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the mixed input with the mixed weight."""
        inputs = self.activations(x, self.activation_logits.softmax(0))
        weight = self.weights(self.conv.weight, self.weight_logits.softmax(0))
        output: torch.Tensor = functional_call(self.conv, {"weight": weight}, (inputs,))
        return output

    def expected_bits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean bits of weight and input under the softmax of the logits."""
        return (
            self.weight_logits.softmax(0) @ self.get_buffer("weight_bits"),
            self.activation_logits.softmax(0) @ self.get_buffer("activation_bits"),
        )


def _floats(bits: Sequence[int]) -> torch.Tensor:
    return torch.tensor(bits, dtype=torch.float32)
