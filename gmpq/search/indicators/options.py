"""How indicators are measured or trained; imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Divergence(Enum):
    """How far the quantized network's outputs are from the float ones."""

    KL = "kl"  # of the class probabilities, in nats
    SQUARED = "mse"  # mean squared error, relative to the mean square of the output


@dataclass(frozen=True, slots=True)
class LimpqOptions:
    """How indicators are trained; the defaults are those of LIMPQ for ResNet18."""

    epochs: int = 5
    batch: int = 256
    lr: float = 0.01  # falls to ``last_lr`` along a cosine
    last_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 2.5e-5  # of weights, not of steps, biases and batch norms
    smoothing: float = 0.1  # of labels
    crop: bool = True  # at random
    flip: bool = True  # at random
    seed: int = 0
