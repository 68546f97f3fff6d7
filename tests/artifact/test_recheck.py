"""``gmpq verify`` finds what is wrong with the shipped files, whatever the digests say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import nn

import gmpq.runtime
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.plan.plan import plan
from gmpq.cli.commands import group
from gmpq.cli.entry import run
from gmpq.compile.network import compile_network
from gmpq.compile.options import CompileOptions
from gmpq.files import manifest, saved_graph
from gmpq.inputs.compile_inputs import CompileInputs, Network
from gmpq.inputs.images import Images, Preprocessing
from gmpq.policy import LayerBits, Policy

SHAPE = (1, 3, 8, 8)
NAMES = ["map", "scores", "again.0"]


class Several(nn.Module):
    """A value of the middle, and logits twice; average pooling before them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        early = self.stem(x).relu()
        scores = self.body(nn.functional.avg_pool2d(early, 3, 1, 1))
        return {"map": early, "scores": scores, "again": [scores]}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verified") / "out"
    pixels = np.random.default_rng(0).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    images = Images(tuple(pixels), np.full(3, -1), Preprocessing.of(SHAPE, None))
    inputs = CompileInputs(
        Policy({}, LayerBits(8, 8)), Network("several", Several(), SHAPE), images
    )
    assert compile_network(inputs, CompileOptions(bench=False), out).parity.equal
    return out


@pytest.fixture
def copied(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "out"))


def sign(out: Path, name: str) -> None:
    """Renew the digest of a file, as whoever changes it on purpose would."""
    fields = json.loads((out / manifest.NAME).read_text("utf-8"))
    fields["files"][name]["sha256"] = manifest.digest(out / name)
    (out / manifest.NAME).write_text(json.dumps(fields), "utf-8")


def writer(model: ModelProto, value: str) -> onnx.NodeProto:
    (node,) = (node for node in model.graph.node if value in node.output)
    return node


def rename(model: ModelProto, old: str, new: str) -> None:
    writer(model, old).output[0] = new
    (end,) = (end for end in model.graph.output if end.name == old)
    end.name = new


def double(model: ModelProto) -> None:
    writer(model, "scores").output[0] = "half"
    model.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
    model.graph.node.append(helper.make_node("Mul", ["half", "two"], ["scores"]))


def swap(model: ModelProto) -> None:
    """Exchange the outputs of one shape that hold other numbers, names and all."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs[1], outputs[0], outputs[2]])


def exchange(model: ModelProto) -> None:
    """Exchange what two names hold."""
    first, second = writer(model, "map"), writer(model, "scores")
    first.output[0], second.output[0] = "scores", "map"


def drop(model: ModelProto) -> None:
    del model.graph.output[2]


def shift(model: ModelProto) -> None:
    """Change a bias of the layer that reads what average pooling has made."""
    (bias,) = (each for each in model.graph.initializer if each.name == "body:bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.int32(99), bias.name))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(double, "output 1 'scores' of onnxruntime extended: ", id="doubled"),
        pytest.param(swap, "output 0 'map' of onnxruntime extended: is called", id="swapped"),
        pytest.param(exchange, "output 0 'map' of onnxruntime extended:", id="exchanged"),
        pytest.param(drop, "output 2 'again.0' of onnxruntime extended: is missing", id="dropped"),
        pytest.param(lambda model: rename(model, "map", "card"), "is called 'card'", id="renamed"),
        pytest.param(shift, "output 1 'scores' of onnxruntime extended: 512 of 512", id="shifted"),
    ],
)
def test_a_changed_onnx_file_is_found(
    copied: Path,
    change: Callable[[ModelProto], None],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = onnx.load(copied / "model.onnx")
    change(model)
    onnx.save(model, copied / "model.onnx")
    sign(copied, "model.onnx")
    assert run(group, ["verify", str(copied)], "gmpq") == 1
    assert told in capsys.readouterr().out


def test_an_output_that_the_library_leaves_unwritten_is_found(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, target = saved_graph.load(copied / "graph.safetensors"), targets.native()
    planned = plan(graph, target)
    without = tuple(step for step in planned.steps if step.outputs != ("again.0",))
    assert len(without) == len(planned.steps) - 1
    assemble(graph, replace(planned, steps=without), target, tmp_path)
    shutil.copy(tmp_path / "model.so", copied / "model.so")
    sign(copied, "model.so")
    assert run(group, ["verify", str(copied)], "gmpq") == 1
    told = "output 2 'again.0' of tvm shipped: 256 values are not written"
    assert told in capsys.readouterr().out


def test_verify_shows_and_repeats_what_parity_holds(
    compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(group, ["verify", str(compiled)], "gmpq") == 0
    assert "3 of 3" in capsys.readouterr().out
    outputs = json.loads((compiled / "parity.json").read_text("utf-8"))["outputs"]
    places = {(each["backend"], each["level"]) for each in outputs}
    levels = {("onnxruntime", "extended"), ("onnxruntime", "all"), ("tvm", "shipped")}
    assert places == {("torch", ""), *levels}
    assert [each["output"] for each in outputs[:3]] == NAMES
    assert not any(each["different"] for each in outputs)


def test_the_runtime_returns_outputs_by_position_and_by_name(compiled: Path) -> None:
    network, image = gmpq.runtime.load(compiled), np.ones(SHAPE, np.float32)
    found = network.run_named(image)
    assert list(found) == NAMES
    for expected, array in zip(network.run(image), found.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(found["again.0"], found["scores"])
    with torch.inference_mode():
        real = Several().eval()(torch.from_numpy(image))["scores"]
    assert isinstance(real, torch.Tensor)
    assert np.corrcoef(found["scores"].ravel(), real.numpy().ravel())[0, 1] > 0.99
