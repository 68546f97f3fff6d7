"""Epochs of training: batches, steps, evaluation, checkpoints, early end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from gmpq.errors import TrainingError
from gmpq.files import atomic
from gmpq.inputs.images import Images
from gmpq.models.checkpoints import UNFIT
from gmpq.progress import Progress
from gmpq.qat import checkpoint
from gmpq.qat.checkpoint import Checkpoint
from gmpq.qat.losses import Loss
from gmpq.qat.network import QatNetwork
from gmpq.qat.optimize import advance, make_optimizer, rate
from gmpq.qat.options import TrainOptions
from gmpq.qat.reestimate import reestimate
from gmpq.training.augment import Augmentation, Draw
from gmpq.training.batches import (
    Batch,
    plain_batches,
    steps_per_epoch,
    training_batches,
    whole_batch,
)
from gmpq.training.data import Labelled
from gmpq.training.processes import all_sum, parallel, rank, world_size

CHANGEABLE = ("lr",)  # when resuming: the cure of a loss that is no number
CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun:
    """What a training run needs besides the network."""

    train: Labelled
    val: Images
    options: TrainOptions
    folder: Path  # of the checkpoint and the log
    teacher: nn.Module
    device: torch.device
    workers: int = 0  # threads that read photographs ahead

    @property
    def batch(self) -> int:
        """Images per step, over all processes; not more than there are."""
        return whole_batch(len(self.train), self.options.batch)

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return steps_per_epoch(len(self.train), self.options.batch)


@dataclass(slots=True, eq=False)
class _State:
    """What changes from epoch to epoch."""

    network: QatNetwork
    optimizer: Optimizer
    epoch: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(
    network: QatNetwork, run: TrainingRun, resume: bool, progress: Progress
) -> list[dict[str, Any]]:
    """Train ``network``, leave it as it was at its best epoch, and return the log's rows.

    Raises:
        TrainingError: a loss is no number, or the checkpoint cannot be used.
    """
    torch.manual_seed(run.options.seed)
    network.to(run.device)
    state = _State(network, make_optimizer(network, run.options))
    if resume:
        _restore(state, run)
    unused = len(network.plan.graph.outputs) > 1
    runner = parallel(network, buffers=False, unused=unused)
    while state.epoch < run.options.epochs and not _tired(state, run.options):
        _epoch(state, runner, run, progress)
        if rank() == 0:
            _save(state, run)
    network.load_state_dict(state.best)
    network.eval()
    return state.history


def _tired(state: _State, options: TrainOptions) -> bool:
    if options.patience is None:
        return False
    return state.epoch - state.best_epoch >= options.patience


def _epoch(state: _State, runner: nn.Module, run: TrainingRun, progress: Progress) -> None:
    begin = time.perf_counter()
    options, network = run.options, state.network
    augmentation = Augmentation(options.crop, options.flip)
    draw = Draw(run.train, augmentation, options.seed, state.epoch)
    loss, accuracy = _steps(state, runner, run, draw, progress)
    if options.reestimate:
        count = min(options.reestimate, run.steps)
        reestimate(network, (x for x, _ in _batches(draw, run, count)))
    measured = evaluate(network, run.val, options.batch, run.device)
    state.epoch += 1
    row = {
        "epoch": state.epoch,
        "loss": loss,
        "accuracy": accuracy,
        "val_accuracy": measured,
        "lr": state.optimizer.param_groups[0]["lr"],
        "seconds": round(time.perf_counter() - begin, 3),
    }
    state.history.append(row)
    if measured > state.best_accuracy:
        state.best_accuracy, state.best_epoch = measured, state.epoch
        state.best = {key: value.clone() for key, value in network.state_dict().items()}
    progress.stage(
        f"epoch {state.epoch} of {options.epochs}: loss {loss:.4f}, accuracy {accuracy:.2%}, "
        f"validation {measured:.2%}"
    )


def _steps(
    state: _State, runner: nn.Module, run: TrainingRun, draw: Draw, progress: Progress
) -> tuple[float, float]:
    """Train for one epoch; return the mean loss and the share of correct answers."""
    loss_of = Loss(run.teacher, run.options)
    runner.train()
    total = right = 0.0
    name = f"epoch {state.epoch + 1}/{run.options.epochs}"
    with progress.bar(name, run.steps * run.batch) as done:
        for step, batch in enumerate(_batches(draw, run, run.steps)):
            loss, hits = _step(state, runner, run, loss_of, batch, step)
            total, right = total + loss, right + hits
            seen = step + 1
            progress.note(f"loss {total / seen:.4f}, accuracy {right / seen / run.batch:.1%}")
            done(run.batch)
    return total / run.steps, right / run.steps / run.batch


def _step(
    state: _State,
    runner: nn.Module,
    run: TrainingRun,
    loss_of: Loss,
    batch: Batch,
    step: int,
) -> tuple[float, float]:
    """Make one step; return the loss and the count of correct answers over all processes."""
    x, labels = batch
    with torch.autocast(run.device.type, enabled=run.device.type == "cuda"):
        logits = runner(x).float()
        loss = loss_of(logits, x, labels)
    hits = (logits.detach().argmax(1) == labels).sum().float()
    both = all_sum(torch.stack([loss.detach(), hits]))
    mean = float(both[0]) / world_size()
    if not math.isfinite(mean):
        raise _diverged(state, run, step, mean)
    state.optimizer.zero_grad()
    torch.autograd.backward(loss)
    pace = rate(state.epoch * run.steps + step, run.steps, run.options)
    advance(state.optimizer, state.network, pace)
    return mean, float(both[1])


def _diverged(state: _State, run: TrainingRun, step: int, loss: float) -> TrainingError:
    place = run.folder / CHECKPOINT
    kept = f"; epoch {state.epoch} is kept in {place}: go on with --resume" if state.epoch else ""
    return TrainingError(
        f"epoch {state.epoch + 1} step {step + 1}: the loss is {loss}: lower --lr "
        f"{run.options.lr:g}{kept}"
    )


def _batches(draw: Draw, run: TrainingRun, count: int) -> Iterator[Batch]:
    """Yield this process's part of the first ``count`` batches of an epoch."""
    for batch in training_batches(draw, run.options.batch, count, run.workers):
        yield batch[0].to(run.device), batch[1].to(run.device)


@torch.no_grad()
def evaluate(network: QatNetwork, images: Images, batch: int, device: torch.device) -> float:
    """Return the share of ``images`` whose largest output is the label; processes share them."""
    network.eval()
    mine = np.arange(rank(), len(images.items), world_size())
    part = replace(images, items=tuple(images.items[i] for i in mine), labels=images.labels[mine])
    right = 0
    for x, labels in plain_batches(part, batch):
        right += int((network(x.to(device)).argmax(1).cpu() == labels).sum())
    return float(all_sum(torch.tensor([float(right)], device=device))) / len(images.items)


def _save(state: _State, run: TrainingRun) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in state.history)
    checkpoint.save(
        Checkpoint(
            run.options.to_json(),
            state.network.state_dict(),
            state.optimizer.state_dict(),
            torch.get_rng_state(),
            state.epoch,
            state.best,
            state.best_accuracy,
            state.best_epoch,
            lines,
        ),
        run.folder / CHECKPOINT,
    )
    atomic.write_text(run.folder / LOG, lines)


def _restore(state: _State, run: TrainingRun) -> None:
    path = run.folder / CHECKPOINT
    held = checkpoint.load(path)
    try:
        _check_options(path, json.loads(held.options), json.loads(run.options.to_json()))
        state.network.load_state_dict(held.network)
        state.optimizer.load_state_dict(held.optimizer)
        torch.set_rng_state(held.rng)
        state.history = [json.loads(line) for line in held.history.splitlines()]
    except (*UNFIT, RecursionError) as error:
        raise TrainingError(
            f"{path}: is of another network or policy: remove its folder and train again"
        ) from error
    state.epoch, state.best = held.epoch, held.best
    state.best_accuracy, state.best_epoch = held.best_accuracy, held.best_epoch


def _check_options(path: Path, held: dict[str, Any], asked: dict[str, Any]) -> None:
    for name, value in held.items():
        if name not in CHANGEABLE and asked.get(name) != value:
            option = name.replace("_", "-")
            raise TrainingError(
                f"{path}: was trained with --{option} {value}, not {asked.get(name)}: "
                "resume with the same options"
            )
