"""A network in training and the integer graph that it emits compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gmpq import spec
from gmpq.artifact import parity, programs
from gmpq.artifact.files import MODEL
from gmpq.artifact.parity import Parity
from gmpq.backends.torch_codes import TorchCodes, compute
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.codegen.build import build
from gmpq.errors import TrainingError
from gmpq.export.onnx import serialize as to_bytes
from gmpq.export.onnx import to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import Conv2d, IntGraph, Linear, Value
from gmpq.qat.build import InitialState
from gmpq.qat.emit import to_integer_graph
from gmpq.qat.layers import QuantizedLayer
from gmpq.qat.network import QatNetwork
from gmpq.qat.norm import Norm
from gmpq.qat.scales import METHODS, MakeScale
from tests.qat.nets import (
    NETWORKS,
    Inverted,
    Preactivated,
    Residual,
    images,
    prepared,
    randomized,
    trained_a_little,
)

MOST_OFF = 1e-4  # of all codes: those within float rounding of the middle between two


def off_by(network: QatNetwork, graph: IntGraph, x: torch.Tensor) -> tuple[float, int]:
    """Return the share of codes that differ, each node reading the network's, and by how much."""
    with torch.no_grad():
        real = dict(network.values(x)) | {"input.float": x}
    codes = {
        name: as_codes(real[name.removesuffix(".codes")], value)
        for name, value in graph.values.items()
        if value.q is not None
    } | {"input": x}
    different = compared = worst = 0
    for node in graph.nodes:
        if graph.values[node.output].q is None:
            continue
        found = compute(graph, node, [codes[name] for name in node.inputs])
        steps = (found - codes[node.output]).abs()
        different += int((steps > 0).sum())
        worst = max(worst, int(steps.max()))
        compared += steps.numel()
    return different / compared, worst


def as_codes(real: torch.Tensor, value: Value) -> torch.Tensor:
    assert value.q is not None
    codes = real / value.q.scale + value.q.zero_point
    assert float((codes - codes.round()).abs().max()) < 1e-3, value.name
    assert value.q.low <= codes.min().round(), value.name
    assert codes.max().round() <= value.q.high, value.name
    return codes.round()


@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (3, 4), (4, 3), (8, 8)], ids=str)
@pytest.mark.parametrize("make", NETWORKS)
def test_codes_agree(make: type[nn.Module], bits: tuple[int, int]) -> None:
    network = trained_a_little(prepared(randomized(make()), *bits))
    graph = to_integer_graph(network)
    spec.check(graph)
    share, worst = off_by(network, graph, images(8, seed=9))
    assert (share, worst) <= (MOST_OFF, 1)


@pytest.mark.parametrize("make", NETWORKS)
def test_the_last_layer_agrees_to_the_rounding_of_float32(make: type[nn.Module]) -> None:
    network = trained_a_little(prepared(randomized(make()), 4, 4))
    graph, x = to_integer_graph(network), images(8, seed=9)
    with torch.no_grad():
        real = dict(network.values(x))
    (last,) = (node for node in graph.nodes if node.output == graph.outputs[0])
    assert isinstance(last, Conv2d | Linear)
    source = graph.values[last.inputs[0]]
    found = compute(graph, last, [as_codes(real[source.name.removesuffix(".codes")], source)])
    wanted = real[last.output]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_output_bits_keep_codes() -> None:
    start = InitialState(output_bits=5)
    graph = to_integer_graph(prepared(randomized(Residual()), 4, 4, start).eval())
    q = graph.values[f"{graph.outputs[0]}.codes"].q
    assert q is not None
    assert q.bits == 5


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in METHODS])
def test_predictions_agree(make: MakeScale) -> None:
    network = trained_a_little(
        prepared(randomized(Residual()), 4, 4, InitialState(make_scale=make)), 6
    )
    graph, x = to_integer_graph(network), images(64, seed=9)
    with torch.no_grad():
        ours = network(x)
    theirs = torch.from_numpy(TorchCodes(graph).run({"input": x.numpy()})[graph.outputs[0]])
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() > 0.95


def test_one_bit_weights_turn_with_their_batch_norm() -> None:
    network = prepared(randomized(Residual()), 1, 4).eval()
    with torch.no_grad():
        norm = network.part(network.layers()[1]).norm
        assert isinstance(norm, Norm)
        norm.gamma[0], norm.gamma[1] = 0.0, -norm.gamma[1].abs()
    graph = to_integer_graph(network)
    weight = next(n.weight for n in graph.nodes if isinstance(n, Conv2d) and n.name == "conv1")
    assert set(np.unique(weight.codes)) == {-1, 1}
    part = network.part(network.layers()[1])
    assert isinstance(part, QuantizedLayer)
    assert np.array_equal(weight.codes[1], -part.codes()[1].numpy())
    share, _ = off_by(network, graph, images(4))
    assert share < MOST_OFF


def test_a_bias_beyond_int32_is_held_in_coarser_steps() -> None:
    network = prepared(randomized(Residual()), 4, 4).eval()
    with torch.no_grad():
        norm = network.part(network.layers()[1]).norm
        assert isinstance(norm, Norm)
        norm.gamma[0] *= 1e-9
        norm.beta[0] = 1.0
    graph = to_integer_graph(network)
    share, _ = off_by(network, graph, images(4))
    assert share < MOST_OFF


def test_a_scale_that_is_no_number_is_reported() -> None:
    network = prepared(randomized(Residual()), 4, 4).eval()
    with torch.no_grad():
        for scale in network.scales:
            next(iter(scale.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match="its scale became nan: lower --lr"):
        to_integer_graph(network)


@pytest.mark.parametrize("make", [Residual, Inverted, Preactivated])
def test_all_programs_compute_the_emitted_graph(make: type[nn.Module], tmp_path: Path) -> None:
    network = trained_a_little(prepared(randomized(make()), 3, 4))
    found = compare_all(to_integer_graph(network), images(1, seed=2).numpy(), tmp_path)
    assert found.equal, parity.to_table(found)


def compare_all(graph: IntGraph, x: np.ndarray, folder: Path) -> Parity:
    model = to_onnx(graph, WeightStorage.INT8)
    (folder / MODEL).write_bytes(to_bytes(model))
    native = targets.find("native")
    built = build(graph, native, folder)
    opened = programs.open_programs(folder, graph, WeightStorage.INT8, native, built.program)
    return programs.check(opened, [{"input": x}])
