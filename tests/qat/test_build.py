"""A network in training starts as the quantized network that calibration makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gmpq.backends.torch_codes import TorchCodes
from gmpq.backends.torch_float import run_float
from gmpq.calib.collect import collect
from gmpq.ir import FloatConv2d, FloatLinear
from gmpq.lower.network import lower_trainable
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.qat.build import build
from gmpq.qat.emit import to_integer_graph
from tests.qat.nets import NETWORKS, SHAPE, Residual, images, prepared, randomized, uniform


@pytest.mark.parametrize("make", NETWORKS)
def test_batch_norms_come_apart_without_changing_the_function(make: type[nn.Module]) -> None:
    lowered = lower_trainable(randomized(make()), SHAPE, "net")
    network = build(lowered, uniform(lowered, 8, 8), [images(16)]).eval()
    x = images(4, seed=3)
    written = dict(run_float(lowered.graph, {"input": x}))
    for node in network.layers():
        part = network.part(node)
        with torch.no_grad():
            if hasattr(part, "weight"):
                _without_rounding(part)
        read = written[node.inputs[0]]
        real = _original(lowered.graph.nodes, node.name)
        wanted = dict(run_float(lowered.graph, {"input": x}))[real.output]
        found = part(read, torch.tensor(1e-6))
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-3 * float(wanted.abs().max()))


def _without_rounding(part: nn.Module) -> None:
    """Let the steps of a layer be so small that its weights keep their values."""
    part.levels = type(part.levels)(-(1 << 20), 1 << 20)
    part.step.copy_(part.weight.abs().flatten(1).amax(1) / (1 << 20))


def _original(nodes: tuple[object, ...], name: str) -> FloatConv2d | FloatLinear:
    (found,) = (n for n in nodes if isinstance(n, FloatConv2d | FloatLinear) and n.name == name)
    return found


def test_untrained_codes_are_those_of_calibration() -> None:
    module = randomized(Residual())
    lowered = lower_trainable(module, SHAPE, "net")
    bits = uniform(lowered, 8, 8)
    statistics = collect(lowered.graph, [images(16)])
    calibrated = quantize_network(
        lowered.graph, bits, statistics, QuantizeOptions(bias_correct=False)
    )
    emitted = to_integer_graph(build(lowered, bits, [images(16)]).eval())
    assert [type(node) for node in emitted.nodes] == [type(node) for node in calibrated.nodes]
    for name, value in calibrated.values.items():
        assert emitted.values[name] == value, name
    x = {"input": images(4, seed=5).numpy()}
    first, second = (TorchCodes(graph).run(x)[graph.outputs[0]] for graph in (emitted, calibrated))
    assert np.abs(first - second).max() < 0.1 * np.abs(second).max()


def test_layers_read_the_stream_at_fewer_bits() -> None:
    network = prepared(randomized(Residual()), 4, 3)
    held = dict(network.values(images(2)))
    stream, narrow = held["relu"], held["relu.a3"]
    assert len(torch.unique(narrow)) <= 8 < len(torch.unique(stream))
    a, b, total = (network.encoding(name).scale for name in ("conv2", "relu", "relu:3"))
    assert a == b == total


def test_gradients_reach_every_parameter() -> None:
    network = prepared(randomized(Residual()), 4, 3).train()
    network(images(8)).square().sum().backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert missing == []
