"""A network of three searched convolutions, and images that it can tell apart at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gmpq.inputs.images import Preprocessing
from gmpq.policy import LayerBits
from gmpq.search.differentiable.deployment import deployment_space
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.differentiable.settings import Recipe, Settings
from gmpq.search.differentiable.train import Task
from gmpq.training.data import Labelled

SHAPE = (3, 12, 12)
CLASSES = 3
RECIPE = Recipe(epochs=3, batch=16, lr=0.05)
SETTINGS = Settings(recipe=RECIPE)


class Small(nn.Module):
    """A stem, a residual block with a linear bottleneck, a grouped convolution, pool and linear."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.narrow = nn.Conv2d(8, 4, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 8, 1, bias=False)  # its input has both signs
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.features = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.wide(self.narrow_norm(self.narrow(x))) + x)
        logits: torch.Tensor = self.head(self.features(self.grouped(x)).mean((2, 3)))
        return logits


class Squared(Small):
    """Its head is not linear: attribution maps need a backward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.wide(self.narrow_norm(self.narrow(x))) + x)
        pooled = self.features(self.grouped(x)).square().mean((2, 3))
        logits: torch.Tensor = self.head(pooled)
        return logits


def small() -> nn.Module:
    """Return the network; always the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


def pictures(count: int = 48, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noisy images [N, H, W, C] with a bright square in a colour and place per class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES)
    images = rng.normal(100, 20, (count, SHAPE[1], SHAPE[2], SHAPE[0]))
    for image, label in zip(images, labels, strict=True):
        image[3 + label : 7 + label, 3:8, label] += 120
    return images.clip(0, 255).astype(np.uint8), labels


def write_pictures(path: Path, count: int = 48, seed: int = 0) -> None:
    images, labels = pictures(count, seed)
    np.savez(path, images=images, labels=labels)


def labelled(count: int = 48, seed: int = 0) -> Labelled:
    images, labels = pictures(count, seed)
    inputs = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return Labelled("here", list(inputs), labels, Preprocessing(SHAPE, (0.0,) * 3, (1.0,) * 3))


def task(work: Path, module: nn.Module | None = None) -> Task:
    module = module or small()
    info = inspect_network(module, SHAPE)
    space = deployment_space(info, info, SETTINGS.candidates, LayerBits(8, 8))
    return Task(module, info, space, labelled(), work)
