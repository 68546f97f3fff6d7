"""The state of a search after an epoch, in a file that runs no code; written all or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gmpq.errors import SearchError
from gmpq.models import checkpoints
from gmpq.models.checkpoints import UNFIT
from gmpq.search.differentiable.supernet_loss import SupernetLoss
from gmpq.search.ilp.candidates import Candidates

VERSION = 2


@dataclass(slots=True, eq=False)
class Training:
    """A search that is under way; it changes as it goes on."""

    loss: SupernetLoss
    weights: torch.optim.SGD
    logits: torch.optim.SGD
    epoch: int = 0  # how many are done
    seconds: float = 0.0  # spent on them


def save(training: Training, path: Path) -> None:
    """Write ``training`` to ``path``; raises ``OutputError``."""
    state = {
        "version": VERSION,
        "space": _bits(training.loss.settings.candidates),
        "epoch": training.epoch,
        "seconds": training.seconds,
        "network": training.loss.supernet.state_dict(),
        "weights": training.weights.state_dict(),
        "logits": training.logits.state_dict(),
    }
    checkpoints.write(state, path)


def load(training: Training, path: Path) -> None:
    """Bring ``training`` to where the file ``path`` was written.

    Raises:
        SearchError: the file is missing, not a checkpoint, or of another search.
    """
    require_checkpoint(path)
    state = checkpoints.read(path, SearchError, "start anew")
    bits = _bits(training.loss.settings.candidates)
    if state.get("version") != VERSION or state.get("space") != bits:
        raise SearchError(
            f"{path}: is of version {state.get('version')} and bits {state.get('space')}, "
            f"this search of {VERSION} and {bits}: give the same options, or start anew"
        )
    try:
        training.loss.supernet.load_state_dict(state["network"])
        training.weights.load_state_dict(state["weights"])
        training.logits.load_state_dict(state["logits"])
        epoch, seconds = int(state["epoch"]), float(state["seconds"])
    except UNFIT as error:
        raise SearchError(
            f"{path}: does not fit the network or its quantizers: give the same options, "
            "or start anew"
        ) from error
    training.epoch, training.seconds = epoch, seconds


def require_checkpoint(path: Path) -> None:
    """Pass a path where a file is; raises ``SearchError``."""
    if not path.is_file():
        raise SearchError(f"{path}: no such checkpoint: start without --resume")


def _bits(candidates: Candidates) -> list[list[int]]:
    return [list(candidates.weight_bits), list(candidates.input_bits)]
