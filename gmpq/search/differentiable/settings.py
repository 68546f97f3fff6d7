"""What a search may choose from, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Protocol

import torch

from gmpq.errors import SearchError
from gmpq.policy import MOST_BITS
from gmpq.search.differentiable.quantizers import HAQ, Quantizers
from gmpq.training.augment import Augmentation

GMPQ_BITS = (2, 3, 4, 6)  # the released command for ResNet-18


@dataclass(frozen=True, slots=True)
class Space:
    """The bits that a layer's weight and its input may have, in rising order."""

    weights: tuple[int, ...] = GMPQ_BITS
    activations: tuple[int, ...] = GMPQ_BITS

    def __post_init__(self) -> None:
        """Refuse bits that no policy may have; raises ``SearchError``."""
        for name, bits in (("weight", self.weights), ("activation", self.activations)):
            rising = all(low < high for low, high in pairwise(bits))
            if not bits or not rising or not 1 <= bits[0] <= bits[-1] <= MOST_BITS:
                raise SearchError(
                    f"{name} bits: got {', '.join(map(str, bits)) or 'none'}: "
                    f"give different numbers from 1 to {MOST_BITS} in rising order, as in 2,3,4"
                )


class Power(Protocol):
    """How sharp the float network's attribution map becomes before it is imitated."""

    def of(self, weight_bits: torch.Tensor, activation_bits: torch.Tensor) -> torch.Tensor:
        """Return the power at the expected bits [L] of all layers, without gradient."""


@dataclass(frozen=True, slots=True)
class CapacityPower:
    """``theta * mean(1 / (w * a))``: the fewer the bits, the sharper the map (the paper's)."""

    theta: float = 24.0
    least: float = 0.5
    most: float = 8.0

    def of(self, weight_bits: torch.Tensor, activation_bits: torch.Tensor) -> torch.Tensor:
        """Return the power, clipped to ``least`` and ``most``."""
        inverse = 1.0 / (weight_bits.detach() * activation_bits.detach())
        return (self.theta * inverse.mean()).clamp(self.least, self.most)


@dataclass(frozen=True, slots=True)
class ConstantPower:
    """The same power at all bits; 3 is what the released command runs with."""

    power: float = 3.0

    def of(self, weight_bits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Return the power."""
        return weight_bits.new_tensor(self.power)


class ExplainedClass(Enum):
    """The class whose evidence the attribution maps show."""

    OWN = "own"  # what each network takes the image for, as released
    TEACHER = "teacher"  # what the float network takes it for, in both maps
    LABEL = "label"  # what it is, in both maps


@dataclass(frozen=True, slots=True)
class Recipe:
    """How weights and logits are trained: both step on each batch (section A9 of the facts)."""

    epochs: int = 25
    batch: int = 256  # over all processes
    lr: float = 0.1
    logits_lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4  # of weights and logits
    decay: float = 0.1
    decay_every: int = 10  # epochs

    def factor(self, epoch: int) -> float:
        """Return what both learning rates are multiplied by in ``epoch``, counted from 0."""
        return float(self.decay ** (epoch // self.decay_every))


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """How the float network is trained where no weights are given; the paper does not say how."""

    epochs: int = 30
    batch: int = 128
    lr: float = 0.1  # falls to 0 along a cosine
    momentum: float = 0.9
    weight_decay: float = 5e-4


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a search can be told."""

    space: Space = field(default_factory=Space)
    quantizers: Quantizers = HAQ
    recipe: Recipe = field(default_factory=Recipe)
    augmentation: Augmentation = field(default_factory=Augmentation)
    attribution_weight: float = 40.0  # 0 is EdMIPS
    complexity_weight: float = 3e-4  # times BOPs over the MACs of the first searched layer
    power: Power = field(default_factory=CapacityPower)
    explained: ExplainedClass = ExplainedClass.OWN
    seed: int = 0
    device: str = "cpu"
