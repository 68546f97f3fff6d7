"""Attribution maps: ``relu(sum_c g_c F_c)`` with ``g_c = sum_pixels d logit_k / d F_c``.

Where the logits are a linear layer of the average over the pixels, ``g_c`` is the layer's weight
[k, c]: the map needs no backward pass, and all gradients through it are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from gmpq.training.scores import trained_scores

EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Head:
    """Where the maps come from, as module paths."""

    features: str  # its output [N, C, H, W] is what the map is made of
    linear: str | None  # the layer of the averaged features that gives the logits, if one does


class Features(NamedTuple):
    """What a network made of a batch."""

    logits: torch.Tensor  # [N, K]
    features: torch.Tensor  # [N, C, H, W]


def observe(network: nn.Module, head: Head, images: torch.Tensor, *, cut: bool = False) -> Features:
    """Return logits and features of ``images`` [N, C, H, W]; ``cut`` starts gradients there."""
    held: list[torch.Tensor] = []

    def hold(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        held.append(output.detach().requires_grad_() if cut else output)
        return held[-1]

    handle = network.get_submodule(head.features).register_forward_hook(hold)
    try:
        logits = trained_scores(network(images))
    finally:
        handle.remove()
    return Features(logits, held[-1])


def attribute(
    network: nn.Module, head: Head, observed: Features, classes: torch.Tensor
) -> torch.Tensor:
    """Return the maps [N, H, W] of ``classes`` [N], with gradients into ``network``."""
    if head.linear is None:
        return grad_cam(observed, classes)
    return cam(observed.features, _weight(network, head.linear), classes)


def teach(
    teacher: nn.Module, head: Head, images: torch.Tensor, classes: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maps [N, H, W] and the winning classes [N] of the float network.

    The maps explain ``classes``, or the network's own if that is None. Nothing in them has a
    gradient; ``teacher`` has to be in evaluation mode, so that its statistics stay as they are.
    """
    assert not teacher.training
    if head.linear is None:
        with torch.enable_grad():
            observed = observe(teacher, head, images, cut=True)
            own = observed.logits.argmax(1)
            maps = grad_cam(observed, own if classes is None else classes)
        return maps.detach(), own
    with torch.no_grad():
        observed = observe(teacher, head, images)
        own = observed.logits.argmax(1)
        return attribute(teacher, head, observed, own if classes is None else classes), own


def cam(features: torch.Tensor, weight: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the maps [N, H, W] of features [N, C, H, W] under a linear layer's weight [K, C]."""
    return functional.relu(torch.einsum("nchw,nc->nhw", features, weight[classes]))


def grad_cam(observed: Features, classes: torch.Tensor) -> torch.Tensor:
    """Return the maps [N, H, W] by a backward pass that can be differentiated again."""
    chosen = observed.logits.gather(1, classes[:, None]).sum()
    (gradients,) = torch.autograd.grad(chosen, observed.features, create_graph=True)
    shares = gradients.sum((2, 3), keepdim=True)
    return functional.relu((shares * observed.features).sum(1))


def normalize(maps: torch.Tensor) -> torch.Tensor:
    """Return ``maps`` [N, H, W] flattened to [N, H * W] and of length 1; empty ones stay 0."""
    return functional.normalize(maps.flatten(1), dim=1, eps=EPSILON)


def count_empty(maps: torch.Tensor) -> torch.Tensor:
    """Return how many of ``maps`` [N, H, W] are 0 everywhere: they teach nothing."""
    return (maps.detach().flatten(1).amax(1) <= 0).sum()


def _weight(network: nn.Module, path: str) -> torch.Tensor:
    linear = network.get_submodule(path)
    assert isinstance(linear, nn.Linear)
    return linear.weight
