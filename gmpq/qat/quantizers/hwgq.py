"""HWGQ activations and EdMIPS' weights: uniform, with the steps that suit a normal distribution.

Activations: ``q(x) = step * round(clamp(x / step, 0, 2^b - 1))`` with a fixed step per bits and no
gradient outside the clip. Cai et al., Deep Learning with Low Precision by Half-wave Gaussian
Quantization, CVPR 2017. Weights: ``step = c_b * std(w)`` and the levels ``(k + 1/2) * step``, which
have no zero: 2 bits have 4 levels. Cai and Vasconcelos, EdMIPS, CVPR 2020, whose constants these
are (https://github.com/zhaoweicai/EdMIPS).
"""

from __future__ import annotations

import torch

from gmpq.errors import PolicyError
from gmpq.qat.quantizers.straight_through import replace_forward

# step for unit deviation, of 1, 2, 3, 4 bits
ACTIVATION_STEPS = (0.799, 0.538, 0.3217, 0.185)
WEIGHT_STEPS = (1.596, 0.996, 0.586, 0.336)


def quantize_activation(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Return ``x``, of any shape, clipped to ``0 .. step * (2^bits - 1)`` and in whole steps.

    Raises:
        PolicyError: HWGQ has no step for ``bits``.
    """
    step = _step(ACTIVATION_STEPS, bits)
    clipped = x.clamp(0, step * ((1 << bits) - 1))
    return replace_forward(clipped, torch.round(clipped / step) * step)


def quantize_weight(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return ``weight``, of any shape, at the nearest of ``2^bits`` levels, with the gradient 1.

    Raises:
        PolicyError: EdMIPS has no step for ``bits``.
    """
    step = weight.detach().std(correction=0) * _step(WEIGHT_STEPS, bits)
    step = step.clamp(min=torch.finfo(weight.dtype).tiny)
    half = 1 << (bits - 1)
    levels = torch.floor(weight / step).clamp(-half, half - 1) + 0.5
    return replace_forward(weight, levels * step)


def _step(steps: tuple[float, ...], bits: int) -> float:
    if not 1 <= bits <= len(steps):
        raise PolicyError(f"HWGQ quantizes to 1 to {len(steps)} bits, got {bits}: use LSQ or PACT")
    return steps[bits - 1]
