"""The state of a training between two epochs, in a file without code."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from gmpq.errors import TrainingError
from gmpq.models import checkpoints


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """All that the next epoch depends on; images and rates depend on seed and epoch alone."""

    options: str  # as text
    network: dict[str, torch.Tensor]
    optimizer: dict[str, Any]  # numbers, lists and tensors
    rng: torch.Tensor
    epoch: int  # that are done
    best: dict[str, torch.Tensor]  # the network of the best epoch
    best_accuracy: float
    best_epoch: int
    history: str  # the log's lines


KINDS = {
    "options": str,
    "network": dict,
    "optimizer": dict,
    "rng": torch.Tensor,
    "epoch": int,
    "best": dict,
    "best_accuracy": float,
    "best_epoch": int,
    "history": str,
}


def save(state: Checkpoint, path: Path) -> None:
    """Write ``state`` to ``path``, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    checkpoints.write({field.name: getattr(state, field.name) for field in fields(state)}, path)


def load(path: Path) -> Checkpoint:
    """Return the state in the file at ``path``.

    Raises:
        TrainingError: it is missing, damaged, or no checkpoint.
    """
    if not path.exists():
        raise TrainingError(f"{path}: no such checkpoint: start without --resume")
    cure = "remove its folder and train again"
    held = checkpoints.read(path, TrainingError, cure)
    kinds = held.keys() == KINDS.keys()
    if not kinds or not all(isinstance(held[name], kind) for name, kind in KINDS.items()):
        raise TrainingError(f"{path}: damaged, or not a checkpoint: {cure}")
    return Checkpoint(**held)
