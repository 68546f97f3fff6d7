"""``gmpq search``: policies that compile, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gmpq.policy import CalibrationSpec, LayerBits
from gmpq.policy import file as policy_file
from tests.cli.conftest import Desk, Result

IMPORTED = ("--import", "tests.cli.networks:small")
MEASURE = ("search", "sensitivity", "policy.json", *IMPORTED, "--calibration", "images.npy")
TRAIN = ("search", "limpq", "policy.json", *IMPORTED, "--epochs", "1", "--batch", "4")


def one_line(result: Result, message: str) -> None:
    """Assert that ``result`` is one line with ``message``."""
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.code == 2


def resnet8(desk: Desk) -> None:
    """Leave a description of a network, and images of its size."""
    model = {"arch": "cifar_resnet8", "weights": "random:3"}
    text = json.dumps({"version": 1, "model": model, "layers": {}})
    (desk.folder / "r8.json").write_text(text, "utf-8")
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    np.save(desk.folder / "r8.npy", images)


def test_a_searched_policy_compiles(desk: Desk) -> None:
    resnet8(desk)
    data = ("--calibration", "r8.npy")
    found = desk.gmpq("search", "sensitivity", "r8.json", *data, "--bits", "4", "-o", "mixed.json")
    assert (found.code, found.err) == (0, "")
    policy = policy_file.read(desk.folder / "mixed.json")
    assert policy.layers["conv1"] == policy.layers["fc"] == LayerBits(8, 8)
    assert policy.provenance is not None
    assert policy.provenance.method == "sensitivity"
    assert policy.provenance.constraint == {"mean_product": 16.0}
    compiled = desk.gmpq("compile", "mixed.json", *data, "--out", "out", "--no-bench")
    assert compiled.code == 0, compiled.err


def test_indicators_answer_a_second_bound(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.gmpq(*MEASURE, "--bits", "3", "--indicators", "i.json", "-o", "a.json").code == 0
    kept = (desk.folder / "i.json").read_bytes()
    (desk.folder / "images.npy").unlink()  # nothing is measured again
    again = desk.gmpq(*MEASURE, "--bits", "w5a6", "--indicators", "i.json", "-o", "b.json")
    assert (again.code, again.err) == (0, "")
    assert (desk.folder / "i.json").read_bytes() == kept
    few, many = (
        policy_file.read(desk.folder / name).layers["body"] for name in ("a.json", "b.json")
    )
    assert few.w * few.a <= 9 < many.w * many.a <= 30


def test_indicators_are_kept_beside_the_policy(desk: Desk) -> None:
    assert desk.gmpq(*MEASURE, "--bits", "3", "-o", "a.json").code == 0
    assert (desk.folder / "a.indicators.json").is_file()


def test_limpq_with_a_sweep_of_alpha(desk: Desk) -> None:
    images = np.load(desk.folder / "images.npy")
    np.savez(desk.folder / "train.npz", images=images, labels=np.arange(len(images)))
    swept = ("--bits", "w3a4", "--alpha", "0.5,2", "-o", "limpq.json")
    found = desk.gmpq(*TRAIN, "--data", "train.npz", *swept)
    assert (found.code, found.err) == (0, "")
    for alpha in ("0.5", "2"):
        policy = policy_file.read(desk.folder / f"limpq-alpha{alpha}.json")
        assert policy.provenance is not None
        assert (policy.provenance.method, policy.provenance.dataset) == ("limpq", "train.npz")
        body = policy.layers["body"]
        assert body.w * body.a <= 12


def test_uniform_and_random_policies(desk: Desk) -> None:
    resnet8(desk)
    assert desk.gmpq("search", "uniform", "r8.json", "--bits", "w3a5", "-o", "u.json").code == 0
    uniform = policy_file.read(desk.folder / "u.json")
    assert uniform.layers["layer2.0.conv1"] == LayerBits(3, 5)
    assert uniform.model.weights == "random:3"
    drawn = ("search", "random", "r8.json", "--bits", "4", "--seed", "7", "-o", "r.json")
    assert desk.gmpq(*drawn).code == 0
    random = policy_file.read(desk.folder / "r.json")
    assert random.provenance is not None
    assert (random.provenance.method, random.provenance.seed) == ("random", 7)
    text = desk.gmpq("explain", "r.json", "--costs").out
    assert "BOPs, published convention" in text


def test_weights_are_named_from_the_policys_folder(desk: Desk) -> None:
    (desk.folder / "policies").mkdir()
    weighted = (*MEASURE, "--weights", "weights.pt", "--bits", "3", "-o", "policies/a.json")
    assert desk.gmpq(*weighted).code == 0
    policy = policy_file.read(desk.folder / "policies" / "a.json")
    assert policy.model.weights == str(Path("..") / "weights.pt")


def test_images_of_the_policy_are_measured_and_named_from_the_new_folder(desk: Desk) -> None:
    named = {"images": ["images.npy"], "limit": 2}
    desk.write_policy(lambda policy: policy.update(calibration=named))
    (desk.folder / "found").mkdir()
    command = ("search", "sensitivity", "policy.json", *IMPORTED, "--bits", "4")
    found = desk.gmpq(*command, "-o", "found/p.json")
    assert (found.code, found.err) == (0, "")
    policy = policy_file.read(desk.folder / "found" / "p.json")
    assert policy.calibration == CalibrationSpec(("../images.npy",), 2)
    kept = json.loads((desk.folder / "found" / "p.indicators.json").read_text("utf-8"))
    assert kept["details"]["images"] == 2


def test_a_picture(desk: Desk) -> None:
    pytest.importorskip("matplotlib")
    assert desk.gmpq(*MEASURE, "--bits", "3", "-o", "a.json", "--plot", "a.svg").code == 0
    assert (desk.folder / "a.svg").is_file()
    assert desk.gmpq("explain", "a.json", *IMPORTED, "--plot", "b.svg").code == 0
    assert (desk.folder / "b.svg").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param((), "no bound: every layer would get the most bits", id="no-bound"),
        pytest.param(("--bops", "1e3"), "BOPs: the limit of 1e-06 G is out of reach", id="bops"),
        pytest.param(("--size", "1e-6"), "size: the limit of 1e-06 MB is out of", id="size"),
        pytest.param(("--bits", "9"), "give a number from 1 to 8, or a pair as w3a4", id="bits"),
        pytest.param(("--bits", "3", "--weight-bits", "4,9"), "out of range, got 9", id="range"),
        pytest.param(("--bits", "3", "--input-bits", "x"), "give whole numbers", id="numbers"),
        pytest.param(("--latency", "3"), "needs the table and the limit", id="no-table"),
        pytest.param(
            ("--latency", "3", "--latency-table", "t.json"), 'layer "head" is missing', id="table"
        ),
        pytest.param(("--bits", "3", "--alpha", "-1"), "give numbers of at least 0", id="alpha"),
        pytest.param(("--bits", "3", "--observer", "msee"), "'msee' is not one of", id="observer"),
    ],
)
def test_mistakes(desk: Desk, more: tuple[str, ...], message: str) -> None:
    times = {"version": 1, "layers": {"stem": {"w8a8": 1}, "body": {}}}
    (desk.folder / "t.json").write_text(json.dumps(times), "utf-8")
    one_line(desk.gmpq(*MEASURE, *more, "-o", "found.json"), message)
    assert not (desk.folder / "found.json").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(
            ("sensitivity", "policy.json", *IMPORTED, "--bits", "3"),
            "no calibration images: give --calibration",
            id="data",
        ),
        pytest.param(("uniform", "resnet9", "--bits", "w4a4"), "did you mean resnet", id="arch"),
        pytest.param(("uniform", "none.json", "--bits", "w4a4"), "no such file", id="file"),
        pytest.param(("uniform", "cifar_resnet8", "--bits", "4.5"), "give a pair", id="pair"),
        pytest.param(("uniform", "cifar_resnet8"), "give a pair", id="no-pair"),
        pytest.param(
            ("uniform", "cifar_resnet8", "--bits", "4", "--size", "1"),
            "--size: uniform bits meet no bound",
            id="uniform-size",
        ),
        pytest.param(
            ("random", "policy.json", *IMPORTED, "--bits", "4", "--size", "1"),
            "got --bits and --size",
            id="random-two",
        ),
        pytest.param(
            ("random", "policy.json", *IMPORTED, "--size", "1"), "one number of BOPs", id="random"
        ),
        pytest.param(
            ("limpq", "policy.json", *IMPORTED, "--data", "images.npy", "--bits", "3"),
            "image 0 has no label",
            id="labels",
        ),
        pytest.param(
            ("limpq", "policy.json", *IMPORTED, "--bits", "3", "--weight-bits", "2,3"),
            "the same bits for weights and inputs",
            id="limpq-bits",
        ),
    ],
)
def test_mistakes_of_other_kinds(desk: Desk, command: tuple[str, ...], message: str) -> None:
    one_line(desk.gmpq("search", *command, "-o", "found.json"), message)
    assert not (desk.folder / "found.json").exists()


def test_folders_must_exist(desk: Desk) -> None:
    one_line(desk.gmpq(*MEASURE, "--bits", "3", "-o", "nowhere/a.json"), "nowhere")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(("random", "net", "--ends"), "it is now --include-first-last", id="ends"),
        pytest.param(("random", "net", "--from", "2,3"), "it is now --weight-bits", id="from"),
        pytest.param(("gmpq", "--arch", "net"), "it is now the argument NETWORK", id="arch"),
        pytest.param(("gmpq", "net", "--teacher", "t"), "it is now --weights", id="teacher"),
        pytest.param(("edmips", "net", "--activation-bits", "2"), "it is now --input-bits", id="a"),
        pytest.param(("gmpq", "net", "--shape", "3,8,8"), '"shape": ...', id="shape"),
        pytest.param(("limpq", "net", "--rate", "1"), "it is now --lr", id="rate"),
        pytest.param(("limpq", "net", "--free-steps"), "it is now --keep-decreasing", id="free"),
        pytest.param(("limpq", "net", "--epoch", "1"), "did you mean", id="unknown"),
    ],
)
def test_old_options_name_the_new_ones(desk: Desk, command: tuple[str, ...], message: str) -> None:
    result = desk.gmpq("search", *command, "-o", "found.json")
    assert message.lower() in result.err.lower()
    assert result.code == 2


def test_bits_to_draw_from(desk: Desk) -> None:
    drawn = ("search", "random", "policy.json", *IMPORTED, "--include-first-last", "--bits", "4")
    bits = ("--weight-bits", "2,4", "--input-bits", "4,8")
    assert desk.gmpq(*drawn, *bits, "-o", "r.json").code == 0
    policy = policy_file.read(desk.folder / "r.json")
    assert {each.w for each in policy.layers.values()} <= {2, 4}
    assert {each.a for each in policy.layers.values()} <= {4, 8}


def test_uniform_bits_of_all_layers(desk: Desk) -> None:
    uniform = ("search", "uniform", "policy.json", *IMPORTED, "--include-first-last")
    assert desk.gmpq(*uniform, "--bits", "4", "-o", "u.json").code == 0
    policy = policy_file.read(desk.folder / "u.json")
    assert set(policy.layers.values()) == {LayerBits(4, 4)}
