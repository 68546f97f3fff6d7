"""From a module in Python to a directory, and using the directory again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gmpq.runtime
from gmpq.artifact import recheck
from gmpq.artifact.latency import NETWORK, Plan
from gmpq.cli.commands import group
from gmpq.cli.entry import run
from gmpq.compile.network import Report, compile_network
from gmpq.compile.options import CompileOptions
from gmpq.export.weight_storage import WeightStorage
from gmpq.files import manifest, saved_graph
from gmpq.inputs.compile_inputs import CompileInputs, Network
from gmpq.inputs.images import Images, Preprocessing
from gmpq.ir import Conv2d, IntGraph, Node
from gmpq.policy import LayerBits, Policy
from tests.cli.networks import SHAPE, small

POLICY = Policy({"stem": LayerBits(8, 8), "body": LayerBits(2, 3)}, LayerBits(4, 8))
OPTIONS = CompileOptions(bench=False)


def compile_inputs(module: nn.Module | None = None, batch: int = 1) -> CompileInputs:
    shape = (batch, *SHAPE[1:])
    pixels = np.random.default_rng(0).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    images = Images(tuple(pixels), np.full(3, -1), Preprocessing.of(shape, None))
    return CompileInputs(POLICY, Network("small", module or small(), shape), images)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("compiled") / "small-native"
    options = replace(OPTIONS, storage=WeightStorage.PACKED)
    return out, compile_network(compile_inputs(), options, out)


def test_the_directory_holds_what_it_promises(compiled: tuple[Path, Report]) -> None:
    out, report = compiled
    fields = manifest.check_files(out)
    expected = {"graph.safetensors", "latency.json", "model.a", "model.h", "model.onnx", "model.so"}
    expected |= {"classify.c", "params.bin", "parity.json", "policy.json", "samples.safetensors"}
    assert set(fields["files"]) == expected
    assert fields["layers"]["body"] == {"w": 2, "a": 3}
    assert fields["inputs"][0]["shape"] == list(SHAPE)
    assert fields["inputs"][0]["codes"]["bits"] == 8
    assert "codes" not in fields["outputs"][0]
    assert fields["tools"]["numpy"] == np.__version__
    assert report.parity.equal
    assert {c.backend for c in report.parity.comparisons} == {"torch", "onnxruntime", "tvm"}
    assert report.lowering_error < 1e-5
    assert report.fusion.fallbacks == ()
    assert json.loads((out / "parity.json").read_text("utf-8"))["verdict"] == "equal"


def test_the_program_runs_with_numpy_alone(compiled: tuple[Path, Report]) -> None:
    out, _ = compiled
    network = gmpq.runtime.load(out)
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    with torch.inference_mode():
        expected = small().eval()(torch.from_numpy(image)).numpy()
    found = network.run(image)
    assert isinstance(found, np.ndarray)
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


def test_verify_and_explain_repeat_what_is_known(
    compiled: tuple[Path, Report], capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = compiled
    assert recheck.check_again(out) == report.parity
    assert run(group, ["explain", str(out)], "gmpq") == 0
    told = capsys.readouterr().out
    assert "body" in told
    assert "refused" in told


def test_bench_measures_networks_and_layers(compiled: tuple[Path, Report]) -> None:
    out, _ = compiled
    measured = recheck.measure_again(out, 1, Plan(seconds=0.0, least=3, most=3, warm_up=1))
    assert {(row.backend, row.layer) for row in measured.rows} >= {
        (backend, layer) for backend in ("onnxruntime", "tvm") for layer in (NETWORK, "body")
    }
    assert measured.on is not None
    assert measured.on.settings["tvm"] == "compiled for native"
    assert re.fullmatch(r"session.x64quantprecision=[01]", measured.on.settings["onnxruntime"])
    assert measured.on.versions == manifest.versions()


def test_a_difference_is_found_and_named(
    compiled: tuple[Path, Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "changed"
    shutil.copytree(compiled[0], out)
    path = out / "graph.safetensors"
    saved_graph.save(with_other_bias(saved_graph.load(path)), path)
    assert run(group, ["verify", str(out)], "gmpq") == 2
    assert "graph.safetensors: changed since it was compiled" in capsys.readouterr().err
    fields = manifest.read(out)
    fields["files"]["graph.safetensors"]["sha256"] = manifest.digest(path)
    (out / "manifest.json").write_text(json.dumps(fields), "utf-8")
    assert run(group, ["verify", str(out)], "gmpq") == 1
    told = capsys.readouterr().out
    assert "first divergence: tensor body in onnxruntime extended" in told
    torch_line, *others = [line for line in told.splitlines() if "equal" in line or "DIFF" in line]
    assert "equal" in torch_line
    *shipped, unfused = others[2:]
    assert all("DIFFERENT" in line for line in shipped)
    assert "equal" in unfused  # compiled from the changed graph


def with_other_bias(graph: IntGraph) -> IntGraph:
    """Return ``graph`` with biases of its layer "body" that no program was compiled with."""

    def change(node: Node) -> Node:
        if not isinstance(node, Conv2d) or node.name != "body":
            return node
        return replace(node, weight=replace(node.weight, bias=node.weight.bias + 50))

    return replace(graph, nodes=tuple(change(node) for node in graph.nodes))


def test_a_compile_is_repeatable(compiled: tuple[Path, Report], tmp_path: Path) -> None:
    out = tmp_path / "again"
    compile_network(compile_inputs(), replace(OPTIONS, storage=WeightStorage.PACKED), out)
    for name in ("model.onnx", "graph.safetensors", "params.bin", "policy.json", "parity.json"):
        assert (compiled[0] / name).read_bytes() == (out / name).read_bytes()


class Averages(nn.Module):
    """Average pooling, which onnxruntime rounds its own way, before more layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.body = nn.Conv2d(5, 7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.body(self.pool(torch.relu(self.stem(x))))
        return result


def test_networks_with_average_pooling_are_compared_node_by_node(tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = compile_network(compile_inputs(Averages()), OPTIONS, tmp_path / "out")
    assert report.parity.equal
    levels = report.parity.levels()
    assert {len(found) for found in levels.values()} == {len(levels["torch", ""])}


def test_every_option_has_an_effect(tmp_path: Path) -> None:
    torch.manual_seed(0)
    chain = compile_inputs(Averages())
    changes = (
        OPTIONS,
        replace(OPTIONS, observer="minmax"),
        replace(OPTIONS, weight_observer="minmax"),
        replace(OPTIONS, equalize=True),
        replace(OPTIONS, bias_correct=False),
    )
    digests = set()
    for change in changes:
        assert compile_network(chain, change, tmp_path / "out").parity.equal
        digests.add(manifest.digest(tmp_path / "out" / "graph.safetensors"))
    assert len(digests) == len(changes)


def test_more_inputs_than_images_repeat_the_images(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = compile_network(compile_inputs(batch=2), OPTIONS, out)
    assert report.parity.equal
    found = gmpq.runtime.load(out).run(np.zeros((2, *SHAPE[1:]), np.float32))
    assert isinstance(found, np.ndarray)
    assert found.shape == (2, 10)
