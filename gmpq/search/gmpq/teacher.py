"""The float network that is imitated: from a file, or trained first on the same images."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from gmpq.errors import OutputError, SearchError
from gmpq.models.weights import load_weights
from gmpq.progress import Progress
from gmpq.search.gmpq.distributed import Ranks, parallel, total
from gmpq.search.gmpq.network import restart_weights
from gmpq.search.gmpq.samples import Samples, steps_per_epoch, training_batches
from gmpq.search.gmpq.settings import Augmentation, TeacherRecipe


def load_teacher(module: nn.Module, path: Path, device: str) -> nn.Module:
    """Return a copy of ``module`` with the weights of ``path``, ready to teach.

    Raises:
        WeightsError: the file cannot be read or does not fit.
    """
    teacher = copy.deepcopy(module)
    load_weights(teacher, path)
    return _ready(teacher.to(device))


def train_teacher(
    module: nn.Module,
    samples: Samples,
    recipe: TeacherRecipe,
    how: tuple[Augmentation, int, str],
    ranks: Ranks,
    progress: Progress,
) -> nn.Module:
    """Return a copy of ``module``, trained from random weights, ready to teach.

    Args:
        module: the float network.
        samples: the images.
        recipe: how long and how fast.
        how: the augmentation, the seed and the device.
        ranks: this process.
        progress: who hears of it.

    Raises:
        SearchError: the loss is no longer finite.
    """
    augmentation, seed, device = how
    teacher = copy.deepcopy(module)
    restart_weights(teacher, seed)
    wrapped = parallel(teacher.to(device).train(), ranks)
    optimizer = torch.optim.SGD(
        teacher.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    images_per_epoch = steps_per_epoch(len(samples), recipe.batch) * min(recipe.batch, len(samples))
    with torch.random.fork_rng(devices=()), progress.bar(
        "float network", recipe.epochs * images_per_epoch
    ) as advance:
        torch.manual_seed(seed)  # for dropout
        for epoch in range(recipe.epochs):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
            batches = training_batches(samples, recipe.batch, augmentation, (seed, epoch), ranks)
            for step, (images, labels) in enumerate(batches):
                loss = functional.cross_entropy(wrapped(images.to(device)), labels.to(device))
                if total((~torch.isfinite(loss.detach())).float(), ranks) > 0:
                    raise SearchError(
                        f"float network, epoch {epoch + 1}, step {step + 1}: the loss is not "
                        f"finite at a learning rate of {recipe.lr:g}: lower --teacher-lr, or give "
                        "--teacher FILE"
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                advance(len(labels) * ranks.count)
    return _ready(teacher)


def save_teacher(teacher: nn.Module, path: Path) -> None:
    """Write the weights of ``teacher`` to ``path``; raises ``OutputError``."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        state = {key: value.cpu().contiguous() for key, value in teacher.state_dict().items()}
        save_file(state, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _ready(teacher: nn.Module) -> nn.Module:
    return teacher.eval().requires_grad_(False)
