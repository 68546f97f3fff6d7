"""A damaged checkpoint of a training is refused in one line, wherever the damage is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from gmpq.errors import TrainingError
from gmpq.qat import checkpoint
from gmpq.qat.checkpoint import Checkpoint
from tests.support.mutants import torn

STATE = Checkpoint(
    options="{}",
    network={"weight": torch.zeros(3)},
    optimizer={"state": {}, "param_groups": []},
    rng=torch.zeros(3, dtype=torch.uint8),
    epoch=1,
    best={"weight": torch.zeros(3)},
    best_accuracy=0.5,
    best_epoch=1,
    history="",
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(STATE, path)
    return path


def test_nothing_is_lost(saved: Path) -> None:
    held = checkpoint.load(saved)
    assert (held.options, held.epoch, held.best_accuracy) == ("{}", 1, 0.5)


def test_damaged_bytes(saved: Path) -> None:
    content, refused = saved.read_bytes(), 0
    for seed in range(300):
        saved.write_bytes(torn(content, random.Random(seed)))
        try:
            checkpoint.load(saved)
        except TrainingError as error:
            refused += str(error).startswith(f"{saved}: ") and "\n" not in str(error)
        else:
            refused += 1  # the damage is where nothing is read
    assert refused == 300


@pytest.mark.parametrize("field", checkpoint.KINDS)
def test_fields_of_other_types(saved: Path, field: str) -> None:
    state = torch.load(saved, weights_only=True)
    for value in (None, [], ()):
        torch.save(state | {field: value}, saved)
        with pytest.raises(TrainingError, match="damaged, or not a checkpoint: remove its folder"):
            checkpoint.load(saved)
    del state[field]
    torch.save(state, saved)
    with pytest.raises(TrainingError, match="damaged, or not a checkpoint"):
        checkpoint.load(saved)
