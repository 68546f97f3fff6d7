"""Small networks to search, and images with labels for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gmpq.inputs.images import Preprocessing
from gmpq.models.random import randomize
from gmpq.training.data import Labelled

SHAPE = (1, 3, 12, 12)
CLASSES = 4


class Inverted(nn.Module):
    """A stem, an inverted residual with a depthwise convolution, and a classifier, as MobileNetV2.

    The expansion reads a sum without ReLU, which can be negative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.expand = nn.Conv2d(8, 16, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(16)
        self.depth = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False)
        self.depth_norm = nn.BatchNorm2d(16)
        self.project = nn.Conv2d(16, 8, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem_norm(self.stem(x))
        wide = torch.relu(self.expand_norm(self.expand(stem)))
        wide = torch.relu(self.depth_norm(self.depth(wide)))
        total = stem + self.project_norm(self.project(wide))
        result: torch.Tensor = self.fc(total.mean((2, 3)))
        return result


def inverted() -> nn.Module:
    """Return the network with always the same weights."""
    network = Inverted()
    randomize(network, 0, SHAPE[1:])
    return network.eval()


def labelled(count: int, seed: int = 0) -> Labelled:
    """Return images whose label is the quarter that is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.normal(size=(count, *SHAPE[1:])).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 2
    how = Preprocessing.of(SHAPE, None)
    return Labelled("here", list(images), labels.astype(np.int64), how)
