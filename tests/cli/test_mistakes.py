"""Every mistake gets one line and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.conftest import Desk, Result
from tests.cli.networks import small


def refused(desk: Desk, result: Result, message: str) -> None:
    """Assert that ``result`` is one line with ``message`` and that nothing was written."""
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.code == 2
    assert result.out == ""
    assert not desk.out.exists()
    assert [path.name for path in desk.folder.iterdir() if path.name.startswith(".")] == []


# --- the policy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "policy.json: no such file", id="missing"),
        pytest.param('{"version": 1,\n "layers": }', "line 2 column 12: not JSON", id="broken"),
        pytest.param('{"version": 2, "layers": {}}', "version: got 2", id="version"),
        pytest.param('{"version": 1, "layer": {}}', "did you mean layers", id="unknown-key"),
    ],
)
def test_policy_files(desk: Desk, text: str | None, message: str) -> None:
    policy = desk.folder / "policy.json"
    policy.unlink()
    if text is not None:
        policy.write_text(text, "utf-8")
    refused(desk, desk.compile(), message)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        pytest.param(0, "got 0", id="0"),
        pytest.param(9, "got 9", id="9"),
        pytest.param(2.5, "got 2.5", id="2.5"),
        pytest.param("4", "got '4'", id="text"),
        pytest.param(True, "got True", id="true"),
    ],
)
def test_bits(desk: Desk, bits: Any, message: str) -> None:
    desk.write_policy(lambda policy: policy["layers"]["body"].update(w=bits))
    refused(desk, desk.compile(), 'layers."body".w: bits')
    refused(desk, desk.compile(), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda policy: policy["layers"].update(bodi={"w": 4, "a": 4}),
            'layer "bodi" is not in the network (did you mean body?)',
            id="unknown-layer",
        ),
        pytest.param(
            lambda policy: policy["layers"].pop("head"),
            'layer "head" of the network is not in the policy',
            id="uncovered-layer",
        ),
        pytest.param(lambda policy: policy.pop("model"), "shape is missing", id="no-shape"),
        pytest.param(
            lambda policy: policy["model"]["input"].update(shape=[1, 5, 16, 16]),
            "error: ",
            id="wrong-input-shape",
        ),
        pytest.param(
            lambda policy: policy["model"]["input"].update(mean=[0.5]),
            "mean: 1 numbers for 3 channels",
            id="mean",
        ),
    ],
)
def test_policies_that_do_not_fit(
    desk: Desk, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    desk.write_policy(change)
    refused(desk, desk.compile(), message)


def test_architectures(desk: Desk) -> None:
    desk.write_policy(lambda policy: policy["model"].update(arch="resnet19"))
    result = desk.compile(**{"import": ""})
    refused(desk, result, "unknown network 'resnet19' (did you mean resnet1")
    desk.write_policy(lambda _: None)
    refused(desk, desk.compile(**{"import": ""}), "model.arch is missing")


def test_targets_and_observers(desk: Desk) -> None:
    refused(desk, desk.compile("--target", "nativ"), "(did you mean native?)")
    refused(desk, desk.compile("--observer", "mae"), "'mae' is not one of 'minmax'")
    refused(desk, desk.compile("--weight-observer", "max"), "'max' is not one of 'mse', 'minmax'")
    refused(desk, desk.compile("--weight-storage", "int4"), "'int4' is not one of 'int8', 'packed'")
    refused(desk, desk.compile("--threads", "0"), "0 is not in the range")
    refused(desk, desk.compile("--thread", "1"), "No such option")
    for ratio in ("0.5", "nan", "inf", "x"):
        message = f"'{ratio}': give a number of at least 1, or none"
        refused(desk, desk.compile("--max-params-ratio", ratio), message)


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        pytest.param("networks", "expected package.module:factory", id="no-colon"),
        pytest.param("tests.cli.nets:small", "there is no module 'tests.cli.nets'", id="module"),
        pytest.param("tests.cli.networks:smal", "did you mean small", id="factory"),
        pytest.param("tests.cli.networks:Strange", "sin", id="operator"),
    ],
)
def test_networks(desk: Desk, factory: str, message: str) -> None:
    refused(desk, desk.compile(**{"import": factory}), message)


def test_missing_weights(desk: Desk) -> None:
    refused(desk, desk.compile(weights="no.pt"), "no.pt: no such file: check its path")
    refused(desk, desk.compile(weights="package:no_such/x.pt"), "is not installed")
    desk.write_policy(lambda policy: policy["model"].update(arch="resnet18"))
    refused(desk, desk.compile(**{"import": ""}), "no weights")


def test_truncated_weights(desk: Desk) -> None:
    whole = (desk.folder / "weights.pt").read_bytes()
    (desk.folder / "torn.pt").write_bytes(whole[: len(whole) // 2])
    refused(desk, desk.compile(weights="torn.pt"), "torn.pt: truncated")
    (desk.folder / "torn.safetensors").write_bytes(whole[:100])
    refused(desk, desk.compile(weights="torn.safetensors"), "torn.safetensors: truncated")


def test_weights_of_other_shapes(desk: Desk) -> None:
    state = small().state_dict()
    state["head.weight"] = torch.zeros(9, 8)
    torch.save(state, desk.folder / "other.pt")
    refused(desk, desk.compile(weights="other.pt"), "head.weight has shape [9, 8], the network")


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch ran",))


def test_weights_with_code(desk: Desk) -> None:
    torch.save({"stem.weight": Code()}, desk.folder / "code.pt")
    refused(desk, desk.compile(weights="code.pt"), "holds code, which gmpq does not run")
    assert not (desk.folder / "ran").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(desk: Desk, value: float) -> None:
    state = small().state_dict()
    state["body.weight"][0, 0, 0, 0] = value
    torch.save(state, desk.folder / "bad.pt")
    refused(desk, desk.compile(weights="bad.pt"), "body.weight holds 1 NaN or infinite")


# --- calibration ---------------------------------------------------------------------------------


def test_calibration_data(desk: Desk) -> None:
    (desk.folder / "empty").mkdir()
    np.save("shape.npy", np.zeros((2, 3, 8, 8), np.float32))
    np.save("none.npy", np.zeros((0, 3, 16, 16), np.float32))
    np.save("nan.npy", np.full((1, 3, 16, 16), np.nan, np.float32))
    for location, message in (
        ("", "no calibration images: give --calibration"),
        ("empty", "empty: holds no images"),
        ("missing", "missing: no such file or folder"),
        ("shape.npy", "images are float32 [2, 3, 8, 8], the network needs float32 [N, 3, 16, 16]"),
        ("none.npy", "holds no images"),
        ("nan.npy", "holds NaN or infinity"),
        ("policy.json", "not a readable image"),
    ):
        refused(desk, desk.compile(calibration=location), message)


# --- the output ----------------------------------------------------------------------------------


def test_outputs_that_hold_something_else(desk: Desk) -> None:
    mine = desk.folder / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine", "utf-8")
    refused(desk, desk.compile(out="mine"), "already holds notes.txt")
    refused(desk, desk.compile(out="policy.json"), "is not a directory")
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_outputs_that_cannot_be_written(desk: Desk) -> None:
    refused(desk, desk.compile(out="policy.json/out"), "cannot be written")
    if Path("/proc").is_dir():
        refused(desk, desk.compile(out="/proc/gmpq-out"), "/proc/gmpq-out: cannot be written")
    closed = desk.folder / "closed"
    closed.mkdir(mode=0o500)
    if not os.access(closed, os.W_OK):  # the superuser may write everywhere
        refused(desk, desk.compile(out="closed/out"), "closed/out: cannot be written")


@pytest.mark.parametrize("command", ["verify", "bench", "explain"])
def test_directories_that_are_no_output(desk: Desk, command: str) -> None:
    (desk.folder / "empty").mkdir()
    refused(desk, desk.gmpq(command, "empty"), "empty: not an output of gmpq")
