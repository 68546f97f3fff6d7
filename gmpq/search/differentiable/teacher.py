"""The float network that is imitated: from a file, or trained first on the same images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from gmpq.errors import SearchError
from gmpq.files import atomic
from gmpq.models.weights import load_weights
from gmpq.progress import Progress
from gmpq.search.differentiable.settings import TeacherRecipe
from gmpq.search.differentiable.supernet import restart_weights
from gmpq.training.augment import Augmentation, Draw
from gmpq.training.batches import steps_per_epoch, training_batches, whole_batch
from gmpq.training.data import Labelled
from gmpq.training.processes import all_sum, parallel, rank, world_size
from gmpq.training.scores import trained_scores


def load_teacher(module: nn.Module, path: Path, device: str) -> nn.Module:
    """Return a copy of ``module`` with the weights of ``path``, ready to teach.

    Raises:
        WeightsError: the file cannot be read or does not fit.
    """
    teacher = copy.deepcopy(module)
    load_weights(teacher, path)
    return freeze(teacher.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TeacherTraining:
    """What a float network is trained on, and how."""

    data: Labelled
    recipe: TeacherRecipe
    augmentation: Augmentation
    seed: int
    device: str


def train_teacher(module: nn.Module, training: TeacherTraining, progress: Progress) -> nn.Module:
    """Return a copy of ``module``, trained from random weights, ready to teach.

    Raises:
        SearchError: the loss is no longer finite.
    """
    recipe = training.recipe
    teacher = copy.deepcopy(module).to(training.device).train()
    restart_weights(teacher, training.seed)
    wrapped = parallel(teacher)
    optimizer = torch.optim.SGD(
        teacher.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    count = len(training.data)
    images = steps_per_epoch(count, recipe.batch) * whole_batch(count, recipe.batch)
    with (
        torch.random.fork_rng(devices=()),
        progress.bar("float network", recipe.epochs * images) as advance,
    ):
        for epoch in range(recipe.epochs):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
            _epoch(wrapped, optimizer, training, epoch, advance)
    return freeze(teacher)


def _epoch(
    wrapped: nn.Module,
    optimizer: torch.optim.SGD,
    training: TeacherTraining,
    epoch: int,
    advance: Callable[[int], object],
) -> None:
    draw = Draw(training.data, training.augmentation, training.seed, epoch)
    torch.manual_seed(draw.number(rank()))  # for dropout
    for step, (images, labels) in enumerate(training_batches(draw, training.recipe.batch)):
        logits = trained_scores(wrapped(images.to(training.device)))
        loss = functional.cross_entropy(logits, labels.to(training.device))
        if all_sum((~torch.isfinite(loss.detach())).float()) > 0:
            raise SearchError(
                f"float network, epoch {epoch + 1}, step {step + 1}: the loss is not finite: "
                "lower --teacher-lr, or give --teacher FILE"
            )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        advance(len(labels) * world_size())


def save_teacher(teacher: nn.Module, path: Path) -> None:
    """Write the weights of ``teacher`` to ``path``, all or nothing; raises ``OutputError``."""
    state = {key: value.cpu().contiguous() for key, value in teacher.state_dict().items()}
    atomic.write_bytes(path, save(state))


def freeze(teacher: nn.Module) -> nn.Module:
    """Return ``teacher`` in evaluation mode, its weights without gradients."""
    return teacher.eval().requires_grad_(False)
