"""The search itself: weights and logits step together on every batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gmpq.errors import SearchError
from gmpq.progress import Progress
from gmpq.search.differentiable import checkpoint, epoch_log
from gmpq.search.differentiable.assignment import Logits
from gmpq.search.differentiable.checkpoint import Training
from gmpq.search.differentiable.inspect import NetworkInfo
from gmpq.search.differentiable.settings import Recipe, Settings
from gmpq.search.differentiable.supernet import make_supernet, mixed_convs, restart_weights
from gmpq.search.differentiable.supernet_loss import SupernetLoss, Terms
from gmpq.search.ilp.constraints import expected_bops, total_bops
from gmpq.search.ilp.space import Space
from gmpq.training.augment import Augmentation, Draw
from gmpq.training.batches import plain_batches, steps_per_epoch, training_batches, whole_batch
from gmpq.training.data import Labelled
from gmpq.training.processes import all_sum, parallel, rank, world_size
from gmpq.training.scores import trained_scores


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is searched, on which images, and the folder of checkpoint and log."""

    module: nn.Module  # the float network; its weights are not used
    info: NetworkInfo
    space: Space  # of the network that the policy is for
    data: Labelled
    work: Path  # a folder, for checkpoint and log
    validation: Labelled | None = None

    @property
    def checkpoint(self) -> Path:
        """The file of the last good state."""
        return self.work / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """The file with a line of JSON per epoch."""
        return self.work / "log.jsonl"


def begin(task: Task, settings: Settings) -> Training:
    """Return a search before its first epoch, with random weights under the seed."""
    network = make_supernet(task.module, task.info, settings)
    restart_weights(network, settings.seed)
    loss = SupernetLoss(network, task.info, settings).to(settings.device)
    logits = [
        parameter
        for layer in mixed_convs(network, task.info)
        for parameter in (layer.weight_logits, layer.input_logits)
    ]
    known = {id(parameter) for parameter in logits}
    weights = [each for each in network.parameters() if id(each) not in known]
    recipe = settings.recipe
    return Training(
        loss,
        weights=_descent(weights, recipe.lr, recipe),
        logits=_descent(logits, recipe.logits_lr, recipe),
    )


def _descent(parameters: list[nn.Parameter], rate: float, recipe: Recipe) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters, lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def train(
    training: Training, teacher: nn.Module | None, task: Task, progress: Progress
) -> tuple[Logits, epoch_log.EpochRecord | None]:
    """Return the logits after all epochs that are left, and what the last one was like.

    After each epoch the state is saved and the log has a line more.

    Raises:
        SearchError: the loss is no longer finite; the checkpoint is that of the epoch before.
        OutputError: checkpoint or log cannot be written.
    """
    recipe = training.loss.settings.recipe
    wrapped = parallel(training.loss)
    record: epoch_log.EpochRecord | None = None
    with torch.random.fork_rng(devices=()):
        while training.epoch < recipe.epochs:
            name = f"epoch {training.epoch + 1}/{recipe.epochs}{epoch_log.show(record)}"
            with progress.bar(name, _images(task, training)) as advance:
                means = _epoch(training, wrapped, teacher, task, advance)
            record = _record(training, task, means)
            if rank() == 0:
                checkpoint.save(training, task.checkpoint)
                epoch_log.write(record, task.log)
    return logits_of(training), record


def logits_of(training: Training) -> Logits:
    """Return the logits as they are."""
    loss = training.loss
    layers = mixed_convs(loss.supernet, loss.info)
    return Logits(
        loss.settings.candidates,
        weights=np.stack([_numbers(layer.weight_logits) for layer in layers]),
        inputs=np.stack([_numbers(layer.input_logits) for layer in layers]),
    )


def accuracy(network: nn.Module, data: Labelled, batch: int, device: str) -> float:
    """Return the share of the images that ``network`` takes for what they are."""
    was_training = network.training
    network.eval()
    right = 0
    with torch.no_grad():
        for images, labels in plain_batches(data.inputs(), batch):
            scores = trained_scores(network(images.to(device)))
            right += int((scores.argmax(1).cpu() == labels).sum())
    network.train(was_training)
    return right / len(data)


def _images(task: Task, training: Training) -> int:
    batch = training.loss.settings.recipe.batch
    count = len(task.data)
    return steps_per_epoch(count, batch) * whole_batch(count, batch)


def _epoch(
    training: Training,
    wrapped: nn.Module,
    teacher: nn.Module | None,
    task: Task,
    advance: Callable[[int], object],
) -> Terms:
    """Train for an epoch; return the means of all terms, ``right`` and ``empty`` per image."""
    started = time.monotonic()
    settings = training.loss.settings
    recipe = settings.recipe
    draw = Draw(task.data, Augmentation(recipe.crop, recipe.flip), settings.seed, training.epoch)
    _set_rates(training)
    torch.manual_seed(draw.number(rank()))  # for dropout
    training.loss.train()
    sums = torch.zeros(len(Terms._fields) + 2, dtype=torch.float64)
    for step, (images, labels) in enumerate(training_batches(draw, recipe.batch)):
        images, labels = images.to(settings.device), labels.to(settings.device)
        terms = wrapped(images, labels, training.loss.teacher_outputs_of(teacher, images, labels))
        assert isinstance(terms, Terms)
        _step(training, terms, task, step)
        counted = [*(float(term.detach()) for term in terms), len(labels), 1.0]
        sums += torch.tensor(counted, dtype=torch.float64)
        advance(len(labels) * world_size())
    *summed, images_seen, steps = all_sum(sums).tolist()
    training.epoch += 1
    training.seconds += time.monotonic() - started
    *losses, right, empty = summed
    means = (*(loss / steps for loss in losses), right / images_seen, empty / (2 * images_seen))
    return Terms(*(torch.tensor(mean) for mean in means))


def _set_rates(training: Training) -> None:
    recipe = training.loss.settings.recipe
    factor = recipe.factor(training.epoch)
    pairs = ((training.weights, recipe.lr), (training.logits, recipe.logits_lr))
    for optimizer, rate in pairs:
        for group in optimizer.param_groups:
            group.update(
                lr=rate * factor, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )


def _step(training: Training, terms: Terms, task: Task, step: int) -> None:
    """Step all parameters, if the loss is finite in every process."""
    bad = all_sum((~torch.isfinite(terms.total.detach())).float())
    if bad > 0:
        raise SearchError(_broken(training, task, f"step {step + 1}"))
    training.weights.zero_grad()
    training.logits.zero_grad()
    torch.autograd.backward(terms.total)
    training.weights.step()
    training.logits.step()


def _broken(training: Training, task: Task, place: str) -> str:
    recipe = training.loss.settings.recipe
    kept = f"{task.checkpoint} has epoch {training.epoch}: go on from it by --resume"
    cure = kept if task.checkpoint.exists() else "nothing was kept: start anew"
    return (
        f"epoch {training.epoch + 1}, {place}: the loss is not finite at --lr {recipe.lr:g}: "
        f"{cure} with a lower --lr"
    )


def _record(training: Training, task: Task, means: Terms) -> epoch_log.EpochRecord:
    settings = training.loss.settings
    network = training.loss.supernet
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        training.epoch -= 1
        raise SearchError(_broken(training, task, "last step"))
    logits = logits_of(training)
    checked = None
    if task.validation is not None and rank() == 0:
        checked = accuracy(network, task.validation, settings.recipe.batch, settings.device)
    left = settings.recipe.epochs - training.epoch
    return epoch_log.EpochRecord(
        epoch=training.epoch,
        loss=float(means.total),
        cross_entropy=float(means.cross_entropy),
        attribution=float(means.attribution),
        complexity=float(means.complexity),
        power=float(means.power),
        accuracy=float(means.right),
        validation_accuracy=checked,
        empty_maps=float(means.empty),
        expected_bops=expected_bops(task.space, *logits.expected()),
        argmax_bops=total_bops(task.space, task.space.bits(logits.largest())),
        seconds=training.seconds,
        eta_seconds=training.seconds / training.epoch * left if left else 0.0,
    )


def _numbers(parameter: nn.Parameter) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return parameter.detach().cpu().double().numpy()
