"""From a trained network to its integer graph: codes, scales and biases, nothing calibrated.

A batch norm is ``factor * sums + shift`` in evaluation. A positive factor joins the scale of its
output channel and leaves the codes as they are; a negative one turns their signs. So a layer
computes ``factor * step * (codes . x) + shift``, and only the shift is rounded, to int32 steps of
the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq import numerics, spec
from gmpq.errors import TrainingError
from gmpq.ir import IntGraph, QParams, QWeight
from gmpq.passes.quantize import Layer, emit
from gmpq.passes.ranges import LARGEST_SCALE
from gmpq.passes.weights import check_accumulator, smallest_scales
from gmpq.qat.layers import NORM_CODE, QuantizedLayer
from gmpq.qat.network import QatNetwork

Reals = NDArray[np.float64]


def to_integer_graph(network: QatNetwork) -> IntGraph:
    """Return the integer graph whose codes are those that ``network`` computes in evaluation.

    Float sums round: one within float32's precision of the middle between two codes may fall to
    either.

    Raises:
        TrainingError: a weight or scale is no number, or too large.
        LoweringError: an input could overflow an int32 accumulator.
    """

    def weights(node: Layer, qx: QParams, qy: QParams | None) -> QWeight:
        weight = _fold(_terms(node, network), qx, qy)
        check_accumulator(node.name, weight, qx)
        return weight

    graph = emit(network.learned(), weights)
    spec.check(graph)
    return graph


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """``scale * (codes . x) + bias`` per output channel, not rounded yet."""

    name: str
    codes: Reals  # [O, ...], whole numbers
    scale: Reals  # [O], of any sign
    bias: Reals  # [O]
    bits: int


def _terms(node: Layer, network: QatNetwork) -> _Terms:
    part = network.part(node)
    if isinstance(part, QuantizedLayer):
        step, factor, shift = part.affine()
        scale = step.double() * factor
        return _Terms(node.name, _reals(part.codes()), _reals(scale), _reals(shift), part.bits)
    factor, shift = part.norm.affine()
    codes = np.full(node.weight.shape, float(NORM_CODE))
    return _Terms(node.name, codes, _reals(factor) / NORM_CODE, _reals(shift), 8)


def _fold(terms: _Terms, qx: QParams, qy: QParams | None) -> QWeight:
    _check_finite(terms)
    floor = smallest_scales(terms.bias.astype(np.float32), qx, qy)
    scale = np.maximum(np.abs(terms.scale).astype(np.float32), floor)
    ratio = terms.scale / np.where(np.abs(terms.scale) < floor, floor, np.abs(terms.scale))
    if terms.bits == 1:
        ratio = np.where(ratio < 0, -1.0, 1.0)  # a pair has no smaller code
    codes = numerics.round_half_even(terms.codes * ratio.reshape(-1, *[1] * (terms.codes.ndim - 1)))
    steps = numerics.accumulator_scale(qx.scale, scale).astype(np.float64)
    bias = numerics.round_half_even(terms.bias / steps).astype(np.int32)
    return QWeight(codes.astype(np.int8), scale, bias, terms.bits)


def _check_finite(terms: _Terms) -> None:
    for kind, array in (("scale", terms.scale), ("bias", terms.bias), ("weight", terms.codes)):
        if not np.abs(array).max(initial=0) <= LARGEST_SCALE:  # nan too
            raise TrainingError(
                f"layer '{terms.name}': a {kind} reaches {np.abs(array).max():g}: lower --lr"
            )


def _reals(tensor: torch.Tensor) -> Reals:
    found: Reals = tensor.detach().cpu().double().numpy()
    return found
