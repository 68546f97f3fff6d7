"""Small networks that the command line's tests import by name."""

from __future__ import annotations

import torch
from torch import nn

SHAPE = (1, 3, 16, 16)


def small() -> nn.Module:
    """Two convolutions with a residual sum, pooled into ten classes; always the same weights."""
    torch.manual_seed(0)
    return Small()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(self.stem(x))
        body = torch.relu(self.body(stem) + stem)
        result: torch.Tensor = self.head(body.mean((2, 3)))
        return result


def headless() -> nn.Module:
    """Return the first convolution of ``small`` alone."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1))


class Strange(Small):
    """Has an operator that is not supported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.sin(x))


class Shared(Small):
    """Calls one convolution twice, and scales by constants as a frozen batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 8).reshape(1, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(self.stem(x) * self.scale - 0.1)
        body = torch.relu(self.body(torch.relu(self.body(stem))))
        result: torch.Tensor = self.head(body.mean((2, 3)))
        return result
