"""``gmpq search gmpq`` and ``edmips``: a policy from images, or one line of refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gmpq.cli.commands import group
from gmpq.cli.entry import run
from gmpq.policy import Policy
from gmpq.policy import file as policy_file
from gmpq.search.differentiable.settings import ExplainedClass, QuantizerKind
from tests.cli.conftest import Desk, Result
from tests.search.differentiable.small import small, write_pictures

QUICK = ("--epochs", "1", "--batch", "16", "--teacher-epochs", "1")
SMALL = ("small.json", "--import", "tests.search.differentiable.small:small")


@pytest.fixture
def pictures(desk: Desk) -> Desk:
    write_pictures(desk.folder / "data.npz")
    describe(desk, "small.json", shape=[1, 3, 12, 12])
    describe(desk, "r8.json", "cifar_resnet8", shape=[1, 3, 12, 12])
    return desk


def describe(desk: Desk, name: str, arch: str | None = None, **network_input: object) -> None:
    """Write a policy without bits: a network and what it reads."""
    model = {"input": network_input} | ({} if arch is None else {"arch": arch})
    text = json.dumps({"version": 1, "model": model, "layers": {}})
    (desk.folder / name).write_text(text, "utf-8")


def search(desk: Desk, *more: str, method: str = "gmpq") -> Result:
    return desk.gmpq("search", method, "--data", "data.npz", "-o", "found.json", *QUICK, *more)


def found(desk: Desk) -> Policy:
    return policy_file.read(desk.folder / "found.json")


def details(policy: Policy) -> dict[str, Any]:
    assert policy.provenance is not None
    assert policy.provenance.details is not None
    return dict(policy.provenance.details)


def test_a_policy_within_its_bound(pictures: Desk) -> None:
    result = search(pictures, *SMALL, "--bops", "2.3e6", "--validation", "data.npz")
    assert result.err == ""
    assert result.code == 0
    assert "found.json: written" in result.out
    policy = found(pictures)
    assert list(policy.layers) == ["stem", "narrow", "wide", "grouped", "head"]
    assert (policy.layers["stem"].w, policy.layers["head"].a) == (8, 8)
    assert details(policy)["bops"] <= 2.3e6
    assert policy.provenance is not None
    assert policy.provenance.constraint == {"bops": 2.3e6}
    work = pictures.folder / "found.search"
    assert sorted(path.name for path in work.iterdir()) == [
        "checkpoint.pt",
        "log.jsonl",
        "teacher.safetensors",
    ]
    line = json.loads((work / "log.jsonl").read_text("utf-8"))
    assert line["validation_accuracy"] is not None


def test_the_policy_covers_the_network(pictures: Desk) -> None:
    search(pictures, *SMALL)
    result = pictures.gmpq("explain", "found.json", "--costs", *SMALL[1:])
    assert result.code == 0
    total = next(line for line in result.out.splitlines() if "real bits" in line)
    assert float(total.split()[-2]) == pytest.approx(
        details(found(pictures))["bops"] / 1e9, abs=1e-3
    )


def test_edmips_needs_no_teacher(pictures: Desk) -> None:
    result = search(pictures, *SMALL, "--quantizers", "running", method="edmips")
    assert (result.err, result.code) == ("", 0)
    policy = found(pictures)
    assert policy.provenance is not None
    assert policy.provenance.method == "edmips"
    assert not (pictures.folder / "found.search" / "teacher.safetensors").exists()


def test_published_bops_charge_all_layers_at_the_mean(pictures: Desk) -> None:
    result = search(pictures, "r8.json", "--published-bops", "13e6")
    assert (result.err, result.code) == ("", 0)
    costs = pictures.gmpq("explain", "found.json", "--costs").out
    (line,) = (line for line in costs.splitlines() if "published" in line)
    assert float(line.split()[-2]) <= 13e6 / 1e9 * 1.0001 + 5e-4


def test_a_policy_for_a_larger_network(pictures: Desk) -> None:
    result = search(pictures, "r8.json", "--for", "cifar_resnet8", "--attribution-weight", "0")
    assert (result.err, result.code) == ("", 0)
    assert found(pictures).model.input is None  # the arch's own
    assert found(pictures).model.arch == "cifar_resnet8"


def test_other_classes_and_a_teacher(pictures: Desk) -> None:
    torch.save(small().state_dict(), pictures.folder / "small.pt")
    result = search(
        pictures, *SMALL, "--weights", "small.pt", "--power", "3", "--explain-class", "label"
    )
    assert (result.err, result.code) == ("", 0)
    assert details(found(pictures))["teacher_seconds"] == 0
    result = search(pictures, *SMALL, "--classes", "5", "--attribution-weight", "0")
    assert (result.err, result.code) == ("", 0)


def test_resuming(pictures: Desk) -> None:
    assert search(pictures, *SMALL).code == 0
    assert search(pictures, *SMALL, "--epochs", "2", "--resume").code == 0
    log = (pictures.folder / "found.search" / "log.jsonl").read_text("utf-8")
    assert log.count("\n") == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param((), "Missing argument 'NETWORK'", id="no-network"),
        pytest.param(("cifar_resnet81",), "did you mean cifar_resnet8", id="arch"),
        pytest.param(("bare.json", *SMALL[1:]), "model.input.shape is missing", id="no-shape"),
        pytest.param(("flat.json", *SMALL[1:]), "model.input.shape: ", id="shape"),
        pytest.param(
            ("cifar_resnet8",),
            'data.npz: 12x12 pixels, the network reads 32x32: give "resize": 32',
            id="size",
        ),
        pytest.param((*SMALL, "--bops", "1e3"), "out of reach: the smallest possible", id="bops"),
        pytest.param(
            (*SMALL, "--published-bops", "1e3"), "BOPs: the limit of 1e-06 G is", id="published"
        ),
        pytest.param((*SMALL, "--bisect", "2"), "--bisect: needs a bound", id="bisect"),
        pytest.param(
            (*SMALL, "--bisect", "2", "--bops", "1e9", "--published-bops", "1e9"),
            "and no other, got --bops and --published-bops",
            id="bounds",
        ),
        pytest.param(
            (*SMALL, "--bisect", "2", "--size", "1"), "got --size: give --bops", id="bisect-size"
        ),
        pytest.param((*SMALL, "--size", "1e-6"), "size: the limit of 1e-06 MB is", id="size-bound"),
        pytest.param((*SMALL, "--latency", "3"), "needs the table and the limit", id="no-table"),
        pytest.param(
            (*SMALL, "--include-first-last"), "--include-first-last: gmpq never", id="first-last"
        ),
        pytest.param((*SMALL, "--classes", "2"), "image 2 has label 2", id="labels"),
        pytest.param((*SMALL, "--weight-bits", "4,9"), "out of range, got 9", id="bits"),
        pytest.param((*SMALL, "--weight-bits", "4,x"), "give whole numbers", id="no-bits"),
        pytest.param(("mean.json", *SMALL[1:]), "model.input.mean", id="mean"),
        pytest.param((*SMALL, "--quantizers", "hwgq"), "at most 4 bits, got 6", id="hwgq"),
        pytest.param((*SMALL, "--for", "resnet18"), 'layer "narrow" of the searched', id="for"),
        pytest.param((*SMALL, "--keep", "narow"), "did you mean narrow", id="keep"),
        pytest.param((*SMALL, "--weights", "no.pt"), "no.pt: no such file", id="teacher"),
        pytest.param((*SMALL, "--device", "tpu"), "--device: 'tpu' cannot be used", id="device"),
        pytest.param((*SMALL, "-o", "no/found.json"), "there is no folder no", id="out"),
        pytest.param((*SMALL, "--resume"), "checkpoint.pt: no such checkpoint", id="resume"),
        pytest.param((*SMALL, "--lr", "1e30"), "step 2: the loss is not finite", id="nan"),
        pytest.param(
            ("mobile.json",),
            "an attribution map of one",
            id="one-pixel",
        ),
    ],
)
def test_mistakes(pictures: Desk, more: tuple[str, ...], message: str) -> None:
    describe(pictures, "bare.json")
    describe(pictures, "flat.json", shape=[1, 3, 12])
    describe(pictures, "mean.json", shape=[1, 3, 12, 12], mean=[0.5, "white", 0.5])
    describe(pictures, "mobile.json", "mobilenet_v2", shape=[1, 3, 12, 12])
    result = search(pictures, *more)
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.code == 2
    assert result.out == ""
    assert not (pictures.folder / "found.json").exists()


def test_one_class(desk: Desk) -> None:
    (desk.folder / "data" / "only").mkdir(parents=True)
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(desk.folder / "data" / "only" / "a_0.png")
    describe(desk, "small.json", shape=[1, 3, 12, 12])
    result = desk.gmpq("search", "gmpq", *SMALL, "--data", "data", "-o", "found.json", *QUICK)
    assert "only class" in result.err or "classes" in result.err
    assert result.code == 2


def test_names_in_the_help_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(group, ["search", "gmpq", "--help"], "gmpq") == 0
    text = capsys.readouterr().out
    for kinds in (QuantizerKind, ExplainedClass):
        assert f"[{'|'.join(each.value for each in kinds)}]" in text


@pytest.mark.parametrize("method", ["gmpq", "edmips"])
def test_help_shows_an_example(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(group, ["search", method, "--help"], "gmpq") == 0
    assert f"gmpq search {method} cifar_resnet18" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_find_one_policy(pictures: Desk) -> None:
    root = Path(__file__).parents[2]
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    search_words = ["-m", "gmpq.cli", "search", "gmpq", "--data", "data.npz", "-o", "found.json"]
    done = subprocess.run(
        [sys.executable, *command, *search_words, *QUICK, *SMALL, "--bops", "2.3e6"],
        cwd=pictures.folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("found.json: written") == 1
    assert found(pictures).provenance is not None
