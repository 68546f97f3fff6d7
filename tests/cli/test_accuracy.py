"""What commands say about lost accuracy: compile, ``explain --loss`` and evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmpq.artifact import evaluate
from gmpq.artifact.programs import TVM, Programs
from gmpq.files import manifest
from gmpq.ir import FloatGraph
from tests.cli.conftest import Desk
from tests.cli.networks import SHAPE

NETWORK = ("--import", "tests.cli.networks:small")


def photographs(folder: Path, classes: int) -> None:
    """Write three photographs into the folder of each of ``classes``."""
    rng = np.random.default_rng(1)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (*SHAPE[2:], 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{number}.png")


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.split() for line in text.splitlines() if "%" in line]
    return {name: rest for name, *rest in lines}


def make_tvm_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one to what the compiled program returns."""
    real = evaluate._programs

    def wrong(opened: Programs, graph: FloatGraph) -> dict[str, evaluate.Run]:
        runs = real(opened, graph)
        return runs | {TVM: lambda batch: tuple(x + np.float32(1) for x in runs[TVM](batch))}

    monkeypatch.setattr(evaluate, "_programs", wrong)


def test_a_compiled_directory_knows_its_loss(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = desk.compile()
    assert compiled.code == 0
    assert "integer against float, 4 images" in compiled.out
    assert "worst where all else is float, at the outputs: body" in compiled.out
    loss = json.loads((desk.out / "parity.json").read_text("utf-8"))["loss"]
    assert [output["output"] for output in loss["outputs"]] == ["head"]
    warnings = manifest.read(desk.out)["warnings"]
    assert [f"warning: {line}" for line in warnings] == compiled.err.splitlines()

    explained = desk.gmpq("explain", "out", "--loss")
    assert explained.code == 0
    assert "at outputs dB" in explained.out
    assert {"input", "stem", "body", "head"} <= {
        line.split()[0] for line in explained.out.splitlines() if line
    }
    refused = desk.gmpq("explain", "policy.json", "--loss")
    assert (refused.code, refused.out) == (2, "")
    assert "policy.json is none: compile it" in refused.err

    photographs(desk.folder / "val", 10)
    found = desk.gmpq("evaluate", str(desk.out), "--data", "val", *NETWORK)
    assert found.code == 0, found.err
    assert "30 images, 30 with a label" in found.out
    assert "onnxruntime and tvm return the same numbers for 30 of 30" in found.out
    table = rows(found.out)
    assert table["onnxruntime"] == table["tvm"]
    assert table["float"][1:3] == ["of", "30"]

    limited = desk.gmpq("evaluate", str(desk.out), "--data", "images.npy", "--limit", "3", *NETWORK)
    assert "3 images, 0 with a label" in limited.out
    assert rows(limited.out)["float"] == ["-", "-", "3", "of", "3", "(100.0%)", "-"]

    make_tvm_wrong(monkeypatch)
    other = desk.gmpq("evaluate", str(desk.out), "--data", "images.npy", *NETWORK)
    assert other.code == 1
    assert "return the same numbers for 0 of 4" in other.out


def test_mistakes_of_evaluate_are_lines(desk: Desk) -> None:
    assert desk.compile("--bias-correct").code == 0
    photographs(desk.folder / "few", 3)
    photographs(desk.folder / "many", 11)
    labels = {"images": np.load("images.npy"), "labels": np.array([0, 1, 2, 10])}
    np.savez(desk.folder / "labels.npz", **labels)

    def told(*words: str) -> tuple[int, str]:
        found = desk.gmpq("evaluate", *words)
        return found.code, found.err

    out = str(desk.out)
    code, line = told(out, "--data", "few", *NETWORK)
    assert code == 0
    assert "warning: 3 folders for 10 classes" in line
    for words, message in (
        ((out, "--data", "images.npy"), "model.arch is missing: name a built-in network, or"),
        ((out, "--data", "none", *NETWORK), "none: no such file or folder"),
        ((out, "--data", "many", *NETWORK), "label 10: the network has 10 classes, labels"),
        ((out, "--data", "labels.npz", *NETWORK), "label 10: the network has 10 classes"),
        (("few", "--data", "few", *NETWORK), "few: not an output of gmpq"),
        (
            (out, "--data", "images.npy", *NETWORK, "--weights", "none.pt"),
            "none.pt: no such",
        ),
        (
            (out, "--data", "images.npy", "--import", "tests.cli.networks:headless"),
            "give the network that they were compiled from",
        ),
    ):
        code, line = told(*words)
        assert (code, line.count("\n")) == (2, 1)
        assert message in line


def test_the_float_network_is_found_where_the_policy_found_it(desk: Desk) -> None:
    desk.write_policy(lambda policy: policy["model"].update(weights="weights.pt"))
    (desk.folder / "elsewhere").mkdir()
    (desk.folder / "link").symlink_to("elsewhere")
    for out in ("out", "elsewhere/deep", "link/other"):
        assert desk.compile(out=out).code == 0
        found = desk.gmpq("evaluate", out, "--data", "images.npy", *NETWORK)
        assert found.code == 0, found.err
    copied = json.loads((desk.folder / "elsewhere" / "deep" / "policy.json").read_text("utf-8"))
    assert copied["model"]["weights"] == "../../weights.pt"

    (desk.folder / "weights.pt").rename(desk.folder / "moved.pt")
    lost = desk.gmpq("evaluate", "out", "--data", "images.npy", *NETWORK)
    assert (lost.code, lost.err.count("\n")) == (2, 1)
    assert "weights.pt: no such file" in lost.err
    assert "name the float network's weights by --weights" in lost.err
    named = ("--weights", "moved.pt")
    assert desk.gmpq("evaluate", "out", "--data", "images.npy", *NETWORK, *named).code == 0

    assert desk.compile(*named, out="named").code == 0
    assert desk.gmpq("evaluate", "named", "--data", "images.npy", *NETWORK).code == 0


def test_calibration_on_zeros_is_told(desk: Desk) -> None:
    np.save(desk.folder / "zeros.npy", np.zeros((4, *SHAPE[1:]), np.float32))
    compiled = desk.compile(calibration="zeros.npy")
    assert compiled.code == 0
    assert "warning: input 'input' is 0 everywhere in all 4 calibration images" in compiled.err
    dark = desk.gmpq("evaluate", str(desk.out), "--data", "images.npy", *NETWORK)
    assert "of the input's numbers lie outside the range of its codes" in dark.err
