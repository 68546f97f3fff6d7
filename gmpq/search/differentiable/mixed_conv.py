"""The mixed convolution: ``conv(sum_i softmax(a)_i Q_i(x), sum_j softmax(w)_j Q_j(W))``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call

from gmpq.search.differentiable.quantizers import Quantizers
from gmpq.search.ilp.candidates import Candidates

START = 0.01  # of all logits


class MixedConv2d(nn.Module):
    """A convolution whose weight and input are mixtures of quantized copies.

    It costs one convolution, and one elementwise quantizer per candidate. ``conv`` keeps its own
    forward, so padding of any kind, groups and subclasses work as before.
    """

    def __init__(
        self, conv: nn.Conv2d, candidates: Candidates, quantizers: Quantizers, *, signed: bool
    ) -> None:
        super().__init__()
        self.conv = conv
        self.weights = quantizers.weights(candidates.weight_bits)
        self.inputs = quantizers.activations(candidates.input_bits, signed)
        self.weight_logits = nn.Parameter(torch.full((len(candidates.weight_bits),), START))
        self.input_logits = nn.Parameter(torch.full((len(candidates.input_bits),), START))
        self.register_buffer("weight_bits", _floats(candidates.weight_bits), persistent=False)
        self.register_buffer("input_bits", _floats(candidates.input_bits), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution [N, O, H', W'] of mixed ``x`` [N, C, H, W] and weight."""
        mixed = self.inputs(x, self.input_logits.softmax(0))
        weight = self.weights(self.conv.weight, self.weight_logits.softmax(0))
        output: torch.Tensor = functional_call(self.conv, {"weight": weight}, (mixed,))
        return output

    def expected_bits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean bits [] of weight and input under the softmax of the logits."""
        return (
            self.weight_logits.softmax(0) @ self.get_buffer("weight_bits"),
            self.input_logits.softmax(0) @ self.get_buffer("input_bits"),
        )


def _floats(bits: Sequence[int]) -> torch.Tensor:
    return torch.tensor(bits, dtype=torch.float32)
