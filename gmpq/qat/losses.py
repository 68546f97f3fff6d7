"""The loss: cross-entropy with smoothed labels, and distillation from the float network.

Szegedy et al., 2015 (arXiv:1512.00567, section 7); Hinton et al., 2015 (arXiv:1503.02531).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from gmpq.qat.options import TrainOptions
from gmpq.training.scores import trained_scores


class Loss:
    """``(1 - d) * cross-entropy + d * T^2 * KL(teacher / T || student / T)``.

    Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
    """

    def __init__(self, teacher: nn.Module, options: TrainOptions) -> None:
        """Make the loss; ``teacher`` is the float network."""
        self.teacher = teacher.eval()
        self.options = options

    def __call__(self, logits: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of ``logits`` [N, K] for the inputs ``x``."""
        share, temperature = self.options.distill, self.options.temperature
        hard = functional.cross_entropy(logits, labels, label_smoothing=self.options.smoothing)
        if share == 0:
            return hard
        with torch.no_grad():
            teacher_logits = trained_scores(self.teacher(x))
            target = functional.log_softmax(teacher_logits / temperature, 1)
        student = functional.log_softmax(logits / temperature, 1)
        soft = functional.kl_div(student, target, reduction="batchmean", log_target=True)
        return (1 - share) * hard + share * temperature**2 * soft
