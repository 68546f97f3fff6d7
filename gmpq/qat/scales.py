"""The learned scale of a scale group of activations: LSQ's step or PACT's clip.

``scale`` is one number for all values that ``gmpq.passes.scale_groups`` ties together; each value
has its own codes ``low - zero .. high - zero`` around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from gmpq.errors import TrainingError, closest
from gmpq.ir import QParams
from gmpq.qat.quantizers import lsq, pact
from gmpq.qat.quantizers.levels import Levels
from gmpq.qat.quantizers.straight_through import at_least


class LsqScale(nn.Module):
    """A step that LSQ trains; its gradient counts the elements of one image, as the paper does."""

    def __init__(self, start: float, maximum: int) -> None:
        """Make a scale that starts at ``start``; ``maximum`` is the largest code of its group."""
        super().__init__()
        self.step = nn.Parameter(torch.tensor(start))

    @property
    def trained(self) -> nn.Parameter:
        """The number [] that the optimizer moves."""
        return self.step

    def scale(self) -> torch.Tensor:
        """Return the positive scale [], without gradient."""
        return at_least(self.step.detach(), lsq.SMALLEST_STEP)

    def forward(self, x: torch.Tensor, q: QParams) -> torch.Tensor:
        """Return ``x`` [N, ...] in whole steps within the codes of ``q``."""
        return lsq.quantize(x, self.step, levels_of(q), x[0].numel())


class PactScale(nn.Module):
    """A clip that PACT trains: the range that all codes of the group span."""

    def __init__(self, start: float, maximum: int) -> None:
        """Make a clip of the scale ``start``; ``maximum`` is the largest code of its group."""
        super().__init__()
        self.maximum = maximum
        self.clip = nn.Parameter(torch.tensor(start * maximum))

    @property
    def trained(self) -> nn.Parameter:
        """The number [] that the optimizer moves."""
        return self.clip

    def scale(self) -> torch.Tensor:
        """Return the positive scale [], without gradient."""
        return at_least(self.clip.detach() / self.maximum, lsq.SMALLEST_STEP)

    def forward(self, x: torch.Tensor, q: QParams) -> torch.Tensor:
        """Return ``x`` [N, ...] in whole steps within the codes of ``q``."""
        return pact.quantize(x, self.clip / self.maximum, levels_of(q))


ActivationScale: TypeAlias = LsqScale | PactScale
MakeScale: TypeAlias = Callable[[float, int], ActivationScale]

METHODS: tuple[tuple[str, MakeScale], ...] = (("lsq", LsqScale), ("pact", PactScale))


def find(name: str) -> MakeScale:
    """Return the way to train scales that is called ``name``.

    Raises:
        TrainingError: there is none, with the nearest names.
    """
    for known, make in METHODS:
        if known == name:
            return make
    names = [known for known, _ in METHODS]
    raise TrainingError(f"no method '{name}'{closest(name, names)}: use {' or '.join(names)}")


def levels_of(q: QParams) -> Levels:
    """Return the codes of ``q`` counted from its zero point."""
    return Levels(q.low - q.zero_point, q.high - q.zero_point)
