"""The total loss of a batch: cross entropy + attribution + complexity, one backward for all."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from gmpq.search.differentiable.attribution import attribute, count_empty, observe, teach
from gmpq.search.differentiable.inspect import Survey
from gmpq.search.differentiable.losses import attribution_loss, complexity_loss
from gmpq.search.differentiable.settings import ExplainedClass, Settings
from gmpq.search.differentiable.supernet import composites, expected_bits


class Taught(NamedTuple):
    """What the float network says about a batch."""

    maps: torch.Tensor  # [N, H, W]
    classes: torch.Tensor  # [N]


class Terms(NamedTuple):
    """The losses of a batch, and what is counted on the way; all are scalars."""

    total: torch.Tensor
    cross_entropy: torch.Tensor
    attribution: torch.Tensor
    complexity: torch.Tensor
    power: torch.Tensor
    right: torch.Tensor  # images of the right class
    empty: torch.Tensor  # images whose map, of either network, is 0 everywhere


class Objective(nn.Module):
    """The search network with its losses: data-parallel training needs both in one forward."""

    def __init__(self, network: nn.Module, surveyed: Survey, settings: Settings) -> None:
        super().__init__()
        self.network = network
        self.surveyed = surveyed
        self.settings = settings

    def forward(self, images: torch.Tensor, labels: torch.Tensor, taught: Taught | None) -> Terms:
        """Return the losses of images [N, C, H, W]; ``taught`` is None without attribution."""
        settings = self.settings
        seen = observe(self.network, self.surveyed.head, images)
        bits = expected_bits(composites(self.network, self.surveyed))
        cross_entropy = functional.cross_entropy(seen.logits, labels)
        macs = [layer.macs for layer in self.surveyed.searched]
        complexity = complexity_loss(macs, *bits)
        power = settings.power.of(*bits)
        attribution, empty = torch.zeros_like(complexity), torch.zeros_like(labels[0])
        own = seen.logits.argmax(1)
        if taught is not None:
            classes = _explained(settings.explained, own, taught.classes, labels)
            maps = attribute(self.network, self.surveyed.head, seen, classes)
            attribution = attribution_loss(maps, taught.maps, power)
            empty = count_empty(maps) + count_empty(taught.maps)
        total = (
            cross_entropy
            + settings.attribution_weight * attribution
            + settings.complexity_weight * complexity
        )
        right = (own == labels).sum()
        return Terms(total, cross_entropy, attribution, complexity, power, right, empty)

    def taught_by(
        self, teacher: nn.Module | None, images: torch.Tensor, labels: torch.Tensor
    ) -> Taught | None:
        """Return the float network's maps of ``images``; None without a teacher."""
        if teacher is None:
            return None
        asked = labels if self.settings.explained is ExplainedClass.LABEL else None
        return Taught(*teach(teacher, self.surveyed.head, images, asked))


def _explained(
    which: ExplainedClass, own: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor
) -> torch.Tensor:
    match which:
        case ExplainedClass.OWN:
            return own
        case ExplainedClass.TEACHER:
            return teacher
        case ExplainedClass.LABEL:
            return label
