"""What a user may choose about training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from gmpq.errors import TrainingError

OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train; the same options, data and seed give the same network."""

    epochs: int = 10
    batch: int = 64  # images per step, over all processes
    method: str = "lsq"  # how the scales of activations train
    optimizer: str = "sgd"
    lr: float = 0.01  # the largest, after the warm-up
    momentum: float = 0.9
    weight_decay: float = 1e-4  # of weights alone
    warmup: float = 1.0  # epochs
    smoothing: float = 0.0  # of labels
    distill: float = 0.0  # share of the loss that follows the float network
    temperature: float = 2.0  # of the distillation
    crop: bool = True
    flip: bool = True
    patience: int | None = None  # epochs without a better accuracy after which training ends
    hold_out: float = 0.1  # share of the data that validates, without data for it
    calibration_images: int = 128  # images that scales start from
    reestimate: int = 20  # batches that batch norms are measured on, at the end of an epoch
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that train nothing; raises ``TrainingError``."""
        _require("epochs", self.epochs, self.epochs >= 1, "at least 1")
        _require("batch", self.batch, self.batch >= 2, "at least 2")
        _require("lr", self.lr, 0 < self.lr < float("inf"), "above 0")
        _require("smoothing", self.smoothing, 0 <= self.smoothing < 1, "from 0 to below 1")
        _require("distill", self.distill, 0 <= self.distill <= 1, "from 0 to 1")
        _require("temperature", self.temperature, self.temperature > 0, "above 0")
        _require("hold-out", self.hold_out, 0 < self.hold_out < 1, "between 0 and 1")
        known = self.optimizer in OPTIMIZERS
        _require("optimizer", self.optimizer, known, " or ".join(OPTIMIZERS))

    def to_json(self) -> str:
        """Return the options as text, for checkpoints to compare."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """What a user may choose besides the data."""

    training: TrainOptions = field(default_factory=TrainOptions)
    resume: bool = False
    workers: int = 0  # threads that read photographs ahead
    threads: int | None = None  # of torch; 1 repeats a training bit for bit
    device: str = "cpu"


def _require(name: str, value: object, right: bool, needed: str) -> None:
    if not right:
        raise TrainingError(f"--{name} {value}: must be {needed}")
