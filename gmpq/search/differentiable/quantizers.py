"""Mixtures of quantized copies, one per candidate bits: modules of a tensor and of shares [B].

All copies of a weight come from the same tensor. Weights are quantized per tensor, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import nn

from gmpq.errors import SearchError
from gmpq.policy import MOST_BITS
from gmpq.qat.quantizers import haq, hwgq
from gmpq.qat.quantizers.lsq import Lsq
from gmpq.qat.quantizers.pact import Pact
from gmpq.search.differentiable.pact_mixture import PactMixture
from gmpq.search.differentiable.settings import QuantizerKind


def mix(copies: Iterable[torch.Tensor], shares: torch.Tensor) -> torch.Tensor:
    """Return the sum of B ``copies`` of one shape, each times its share of ``shares`` [B]."""
    first, *others = (share * copy for share, copy in zip(shares, copies, strict=True))
    total: torch.Tensor = sum(others, start=first)
    return total


class FrozenLimitWeights(nn.Module):
    """HAQ's weights whose limit is ``max|w|`` of the first forward pass, as released.

    The limit of random weights stays for the whole search, however small the weights become.
    """

    limit: torch.Tensor

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("limit", torch.zeros(()))

    def forward(self, weight: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the copies of ``weight`` [O, I, h, w], mixed by ``shares`` [B]."""
        if not self.limit > 0:
            self.limit.copy_(haq.largest(weight))
        return mix((haq.quantize_weight(weight, bits, self.limit) for bits in self.bits), shares)


class RunningLimitWeights(nn.Module):
    """HAQ's weights whose limit is ``max|w|`` of the weight as it is now."""

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the copies of ``weight`` [O, I, h, w], mixed by ``shares`` [B]."""
        limit = haq.largest(weight)
        return mix((haq.quantize_weight(weight, bits, limit) for bits in self.bits), shares)


class LsqWeights(nn.Module):
    """Weights with a learned step per candidate; 2 bits have 4 levels here."""

    started: torch.Tensor

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Lsq(count, True, None) for count in bits)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, weight: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the copies of ``weight`` [O, I, h, w], mixed; the first pass sets the steps."""
        if not self.started:
            for branch in self.branches:
                assert isinstance(branch, Lsq)
                branch.start(weight)
            self.started.fill_(True)
        return mix((branch(weight) for branch in self.branches), shares)


class HwgqWeights(nn.Module):
    """EdMIPS' weights, without zero; 2 bits have 4 levels."""

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the copies of ``weight`` [O, I, h, w], mixed by ``shares`` [B]."""
        return mix((hwgq.quantize_weight(weight, bits) for bits in self.bits), shares)


class PactActivations(nn.Module):
    """PACT with a learned clip per candidate, symmetric where inputs can be negative."""

    def __init__(self, bits: tuple[int, ...], signed: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Pact(count, signed) for count in bits)

    def forward(self, x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the copies of ``x`` [N, C, H, W], mixed by ``shares`` [B]."""
        branches = [branch for branch in self.branches if isinstance(branch, Pact)]
        clips = torch.stack([branch.clip for branch in branches])
        levels = tuple(branch.levels for branch in branches)
        mixture: torch.Tensor = PactMixture.apply(x, shares, clips, levels)  # type: ignore[no-untyped-call]
        return mixture


class HwgqActivations(nn.Module):
    """Half-wave Gaussian activations of fixed steps; there is no signed variant."""

    def __init__(self, bits: tuple[int, ...], signed: bool) -> None:
        super().__init__()
        if signed:
            raise SearchError(
                "HWGQ quantizes no negative inputs, which this layer has: take other --quantizers"
            )
        self.bits = bits

    def forward(self, x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the copies of ``x`` [N, C, H, W], mixed by ``shares`` [B]."""
        return mix((hwgq.quantize_activation(x, bits) for bits in self.bits), shares)


@dataclass(frozen=True, slots=True)
class Quantizers:
    """A pair of quantizers."""

    weights: Callable[[tuple[int, ...]], nn.Module]  # of the candidate bits
    activations: Callable[[tuple[int, ...], bool], nn.Module]  # and of whether inputs are signed
    most_bits: int = MOST_BITS


HAQ = Quantizers(FrozenLimitWeights, PactActivations)  # GMPQ's released code
RUNNING = Quantizers(RunningLimitWeights, PactActivations)
LSQ = Quantizers(LsqWeights, PactActivations)
HWGQ = Quantizers(HwgqWeights, HwgqActivations, len(hwgq.WEIGHT_STEPS))  # EdMIPS


def find(kind: QuantizerKind) -> Quantizers:
    """Return the quantizers of ``kind``."""
    match kind:
        case QuantizerKind.HAQ:
            return HAQ
        case QuantizerKind.RUNNING:
            return RUNNING
        case QuantizerKind.LSQ:
            return LSQ
        case QuantizerKind.HWGQ:
            return HWGQ
        case _:
            assert_never(kind)
