"""What a supernet may choose from, and how it is trained; imports neither torch nor scipy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from gmpq.search.ilp.candidates import Candidates

if TYPE_CHECKING:
    import torch

GMPQ_BITS = (2, 3, 4, 6)  # the released command for ResNet-18


class QuantizerKind(Enum):
    """The quantizers of weights and inputs; ``quantizers.find`` has their modules."""

    HAQ = "haq"  # GMPQ's released code: the weight's limit is that of the first forward pass
    RUNNING = "running"  # the weight's limit is the current one
    LSQ = "lsq"  # learned steps of weights
    HWGQ = "hwgq"  # EdMIPS


class Power(Protocol):
    """How sharp the float network's attribution map becomes before it is imitated."""

    def of(self, weight_bits: torch.Tensor, activation_bits: torch.Tensor) -> torch.Tensor:
        """Return the power at the expected bits [L] of all layers, without gradient."""


@dataclass(frozen=True, slots=True)
class CapacityPower:
    """``theta * mean(1 / (w * a))``: the fewer the bits, the sharper the map.

    Wang et al., arXiv:2108.02720.
    """

    theta: float = 24.0
    least: float = 0.5
    most: float = 8.0

    def of(self, weight_bits: torch.Tensor, activation_bits: torch.Tensor) -> torch.Tensor:
        """Return the power [] at the expected bits [L], clipped to ``least`` and ``most``."""
        inverse = 1.0 / (weight_bits.detach() * activation_bits.detach())
        return (self.theta * inverse.mean()).clamp(self.least, self.most)


@dataclass(frozen=True, slots=True)
class ConstantPower:
    """The same power at all bits; 3 is what the released command runs with."""

    power: float = 3.0

    def of(self, weight_bits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Return the power []."""
        return weight_bits.new_tensor(self.power)


class ExplainedClass(Enum):
    """The class whose evidence the attribution maps show."""

    OWN = "own"  # what each network takes the image for, as released
    TEACHER = "teacher"  # what the float network takes it for, in both maps
    LABEL = "label"  # what it is, in both maps


@dataclass(frozen=True, slots=True)
class Recipe:
    """How weights and logits are trained: both step on each batch.

    Wang et al., arXiv:2108.02720, section 4.1, and the command of the authors' released code.
    """

    epochs: int = 25
    batch: int = 256  # over all processes
    lr: float = 0.1
    logits_lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4  # of weights and logits
    decay: float = 0.1
    decay_every: int = 10  # epochs
    crop: bool = True  # at random
    flip: bool = True  # at random

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
    """All settings of a search by a supernet; the defaults are GMPQ's."""

    candidates: Candidates = field(default_factory=lambda: Candidates(GMPQ_BITS, GMPQ_BITS))
    quantizers: QuantizerKind = QuantizerKind.HAQ
    recipe: Recipe = field(default_factory=Recipe)
    attribution_weight: float = 40.0  # 0 is EdMIPS
    complexity_weight: float = 3e-4  # times BOPs over the MACs of the first searched layer
    power: Power = field(default_factory=CapacityPower)
    explained: ExplainedClass = ExplainedClass.OWN
    seed: int = 0
    device: str = "cpu"


GMPQ = Settings()
EDMIPS = Settings(
    Candidates((1, 2, 3, 4), (2, 3, 4)),
    QuantizerKind.HWGQ,
    attribution_weight=0.0,
    complexity_weight=3.35e-3,
)
