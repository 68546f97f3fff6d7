"""LIMPQ: learned steps as importance, all numbers of bits trained at once; Tang et al., ECCV 2022.

Each training step adds up the gradients of one pass per number of bits with all layers at it, and
of one pass with random bits per layer; then gradients are clipped and one optimizer step is made.
The learned step of a layer at b bits is what b bits cost there: sensitive layers learn large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gmpq.search.ilp.solver import Reals
from gmpq.search.indicators.limpq_network import Switchable, SwitchableLayer
from gmpq.search.indicators.options import LimpqOptions
from gmpq.training.augment import Augmentation, Draw
from gmpq.training.batches import steps_per_epoch, training_batches
from gmpq.training.data import Labelled
from gmpq.training.scores import trained_scores

LARGEST_GRADIENT = 1.0  # per element


def train(
    switchable: Switchable,
    data: Labelled,
    options: LimpqOptions,
    progress: Callable[[int], object],
) -> None:
    """Train the steps of ``switchable``, and its weights with them.

    Args:
        switchable: the network.
        data: images whose labels the network has.
        options: how to train.
        progress: called after each step with its number of images.
    """
    optimizer = _optimizer(switchable.network, options)
    steps = options.epochs * steps_per_epoch(len(data), options.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, options.last_lr)
    switchable.network.train()
    augmentation = Augmentation(options.crop, options.flip)
    draws = (Draw(data, augmentation, options.seed, epoch) for epoch in range(options.epochs))
    batches = (batch for draw in draws for batch in training_batches(draw, options.batch))
    for number, (inputs, labels) in enumerate(batches):
        optimizer.zero_grad()
        for bits in policies(switchable, np.random.default_rng([options.seed, number])):
            switchable.switch(bits)
            logits = trained_scores(switchable.network(inputs))
            loss = functional.cross_entropy(logits, labels, label_smoothing=options.smoothing)
            torch.autograd.backward(loss)
        _clip(switchable.network)
        optimizer.step()
        switchable.clamp_steps()
        schedule.step()
        progress(len(inputs))


def policies(switchable: Switchable, rng: np.random.Generator) -> Iterator[dict[str, int]]:
    """Yield the bits of each pass of one step: uniform from many to few, then random ones."""
    bits = candidates(next(iter(switchable.layers.values())))
    for number in reversed(bits):
        yield dict.fromkeys(switchable.layers, number)
    drawn = rng.choice(bits, len(switchable.layers)).tolist()
    yield dict(zip(switchable.layers, drawn, strict=True))


def candidates(layer: SwitchableLayer) -> list[int]:
    """Return the numbers of bits that ``layer`` switches between, rising."""
    return [int(bits) for bits in layer.weight_steps]


def steps_of(switchable: Switchable, names: list[str]) -> tuple[Reals, Reals]:
    """Return the steps of weights [L, B] and of inputs [L, B] of the layers ``names``."""
    layers = [switchable.layers[name] for name in names]
    weight = _steps([layer.weight_steps for layer in layers])
    return weight, _steps([layer.input_steps for layer in layers])


def _steps(tables: list[nn.ModuleDict]) -> Reals:
    rows = [
        [float(step.get_parameter("step").detach()) for step in table.values()] for table in tables
    ]
    return np.array(rows, np.float64)


def _optimizer(network: nn.Module, options: LimpqOptions) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, options.lr, options.momentum)


def _clip(network: nn.Module) -> None:
    """Clip every element of the gradients; a parameter that no pass touched gets none."""
    for parameter in network.parameters():
        if parameter.grad is None:
            continue
        if not parameter.grad.any():
            parameter.grad = None
        else:
            parameter.grad.clamp_(-LARGEST_GRADIENT, LARGEST_GRADIENT)
