"""The total loss of a batch: cross entropy + attribution + complexity, one backward for all."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from gmpq.search.differentiable.attribution import attribute, count_empty, observe, teach
from gmpq.search.differentiable.inspect import NetworkInfo
from gmpq.search.differentiable.losses import attribution_loss, complexity_loss
from gmpq.search.differentiable.settings import ExplainedClass, Settings
from gmpq.search.differentiable.supernet import expected_bits, mixed_convs


class TeacherOutputs(NamedTuple):
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


class SupernetLoss(nn.Module):
    """The supernet with its losses: data-parallel training needs both in one forward."""

    def __init__(self, supernet: nn.Module, info: NetworkInfo, settings: Settings) -> None:
        super().__init__()
        self.supernet = supernet
        self.info = info
        self.settings = settings

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor, teacher_outputs: TeacherOutputs | None
    ) -> Terms:
        """Return the losses of images [N, C, H, W]; without a teacher none of attribution."""
        settings = self.settings
        observed = observe(self.supernet, self.info.head, images)
        bits = expected_bits(mixed_convs(self.supernet, self.info))
        cross_entropy = functional.cross_entropy(observed.logits, labels)
        macs = [layer.macs for layer in self.info.searched]
        complexity = complexity_loss(macs, *bits)
        power = settings.power.of(*bits)
        attribution, empty = torch.zeros_like(complexity), torch.zeros_like(labels[0])
        own = observed.logits.argmax(1)
        if teacher_outputs is not None:
            classes = _explained(settings.explained, own, teacher_outputs.classes, labels)
            maps = attribute(self.supernet, self.info.head, observed, classes)
            attribution = attribution_loss(maps, teacher_outputs.maps, power)
            empty = count_empty(maps) + count_empty(teacher_outputs.maps)
        total = (
            cross_entropy
            + settings.attribution_weight * attribution
            + settings.complexity_weight * complexity
        )
        right = (own == labels).sum()
        return Terms(total, cross_entropy, attribution, complexity, power, right, empty)

    def teacher_outputs_of(
        self, teacher: nn.Module | None, images: torch.Tensor, labels: torch.Tensor
    ) -> TeacherOutputs | None:
        """Return the maps [N, H, W] and classes [N] of the float network; None without a teacher.

        ``images`` are [N, C, H, W], ``labels`` [N].
        """
        if teacher is None:
            return None
        asked = labels if self.settings.explained is ExplainedClass.LABEL else None
        return TeacherOutputs(*teach(teacher, self.info.head, images, asked))


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
