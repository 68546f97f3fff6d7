"""Batch norm statistics measured anew: reset, then the plain average over some batches.

The "precise" batch norm of Wu and Johnson, 2021 (arXiv:2105.07576).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from gmpq.qat.norm import Norm


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Give the batch norms of ``network`` the average statistics of ``batches`` [N, C, H, W].

    Weights change until the last step, running averages lag behind; and statistics of quantized
    activations jump where codes do. Nothing else changes, and no gradient flows.
    """
    norms = [part for part in network.modules() if isinstance(part, Norm)]
    momenta = [norm.momentum for norm in norms]
    training = network.training
    network.train()
    for index, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (index + 1)  # the first batch replaces what was there
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)
