"""The whole numbers that codes may be: ``round(clamp(x, low, high))``, or the sign for one bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Levels:
    """Codes from ``low`` to ``high``; ``binary`` codes are the pair -1, +1 without 0."""

    low: int
    high: int
    binary: bool = False

    @classmethod
    def unsigned(cls, bits: int) -> Levels:
        """Return ``0 .. 2^b - 1``."""
        return cls(0, (1 << bits) - 1)

    @classmethod
    def signed(cls, bits: int) -> Levels:
        """Return ``-2^(b-1) .. 2^(b-1) - 1``; one bit is the pair -1, +1."""
        if bits == 1:
            return cls(-1, 1, binary=True)
        return cls(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    @classmethod
    def symmetric(cls, bits: int) -> Levels:
        """Return ``1 - 2^(b-1) .. 2^(b-1) - 1``, as gmpq's weights; one bit is the pair -1, +1."""
        if bits == 1:
            return cls(-1, 1, binary=True)
        return cls(1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1)

    def nearest(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the codes of ``steps``, of any shape, ties to even; 0 as a pair is +1."""
        if self.binary:
            return signs(steps)
        return torch.round(steps.clamp(self.low, self.high))


def signs(x: torch.Tensor) -> torch.Tensor:
    """Return +1 where ``x`` >= 0, else -1, in the shape and type of ``x``."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
