"""Post-training quantization, the whole of it, in this order.

1. ``network = equalize(network)``: optional; before calibration, since it moves ranges.
2. ``statistics = collect(network, batches)``: one sweep over the data.
3. ``graph = quantize_network(network, bits, statistics, options)``.

The order is that of Nagel et al., "A White Paper on Neural Network Quantization", 2021
(arXiv:2106.08295).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gmpq import spec
from gmpq.calib.observers import Mse, Observer, Range, find
from gmpq.calib.statistics import Statistics
from gmpq.ir import FloatGraph, IntGraph
from gmpq.passes.bias_correct import bias_correct
from gmpq.passes.quantize import quantize
from gmpq.passes.weights import WeightObserver, find_weight_observer
from gmpq.policy import LayerBits


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """How ranges and scales are chosen, and what outputs are."""

    observer: Observer = field(default_factory=Mse)  # of activations
    weight_observer: WeightObserver = WeightObserver.MSE
    bias_correct: bool = True  # costs nothing, and gains most at few bits
    output_bits: int | None = None  # of the codes of outputs; None leaves layers' float32

    @classmethod
    def named(
        cls, observer: str, weight_observer: str, bias_correct: bool, output_bits: int | None
    ) -> QuantizeOptions:
        """Return the options with the observers of these names.

        Raises:
            CalibrationError: an observer is unknown.
        """
        of_weights = find_weight_observer(weight_observer)
        return cls(find(observer), of_weights, bias_correct, output_bits)


def quantize_network(
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    statistics: Mapping[str, Statistics],
    options: QuantizeOptions,
) -> IntGraph:
    """Return the integer graph of ``graph``, legal by ``gmpq.spec``.

    Args:
        graph: the network in real numbers.
        bits: of every layer's weight and input, by node name.
        statistics: of every value of ``graph``, from ``gmpq.calib.collect``.
        options: how ranges and scales are chosen.

    Raises:
        PolicyError: if a layer has no bits.
        WeightsError: if weights are not finite.
        CalibrationError: if a range is too large.
        LoweringError: if Softmax is not at the output, or an accumulator may overflow.
    """

    def range_of(value: str, width: int) -> Range:
        return options.observer.range(statistics[value], width)

    quantized = quantize(graph, bits, range_of, options.weight_observer, options.output_bits)
    if options.bias_correct:
        quantized = bias_correct(quantized, graph, statistics)
    spec.check(quantized)
    return quantized
