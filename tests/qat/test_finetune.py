"""``gmpq finetune`` from end to end, and compiling what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gmpq.files import saved_graph
from gmpq.qat import fit
from tests.qat.conftest import Desk, separable

ROOT = Path(__file__).parents[2]


def rows(path: Path) -> list[dict]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_a_network_learns_and_compiles_as_it_was_trained(desk: Desk) -> None:
    found = desk.finetune("--no-flip", epochs="8", lr="0.05")
    assert found.code == 0, found.err
    folder = desk.folder / "tuned"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "graph.safetensors",
        "log.jsonl",
        "manifest.json",
        "policy.json",
        "weights.safetensors",
    ]
    assert not (desk.folder / "tuned.training").exists()
    history = rows(folder / "log.jsonl")
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    best = max(row["val_accuracy"] for row in history)
    assert best > 0.7
    assert f"validation accuracy {best:.2%} of the integer graph" in found.out
    compiled = desk.compile("tuned/policy.json", "compiled")
    assert compiled.code == 0, compiled.err
    trained = (folder / "graph.safetensors").read_bytes()
    assert (desk.folder / "compiled" / "graph.safetensors").read_bytes() == trained
    assert json.loads((desk.folder / "compiled" / "parity.json").read_text())["verdict"] == "equal"
    assert desk.finetune(epochs="1").code == 0  # an earlier training is replaced
    (folder / "notes.txt").write_text("mine")
    again = desk.finetune(epochs="1")
    assert again.code == 2
    assert "already holds notes.txt, which gmpq did not write" in again.err


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--method", "pact", "--optimizer", "adam", "--lr", "0.001"), id="pact"),
        pytest.param(("--distill", "0.5", "--smoothing", "0.1", "--workers", "2"), id="distill"),
        pytest.param(("--validation", "train.npz", "--reestimate", "0", "--no-crop"), id="val"),
    ],
)
def test_the_other_options_train_too(desk: Desk, more: tuple[str, ...]) -> None:
    found = desk.finetune(*more)
    assert found.code == 0, found.err
    losses = [row["loss"] for row in rows(desk.folder / "tuned" / "log.jsonl")]
    assert losses[1] < losses[0]


def test_a_network_of_named_outputs_is_trained_by_its_scores(desk: Desk) -> None:
    network = "tests.qat.nets:structured"
    found = desk.finetune("--distill", "0.5", **{"import": network})
    assert found.code == 0, found.err
    losses = [row["loss"] for row in rows(desk.folder / "tuned" / "log.jsonl")]
    assert losses[1] < losses[0]
    graph = saved_graph.load(desk.folder / "tuned" / "graph.safetensors")
    assert graph.outputs == ("features.0", "scores")


def test_training_ends_when_accuracy_does_not_rise(desk: Desk) -> None:
    assert desk.finetune("--patience", "1", epochs="9", lr="1e-9").code == 0
    assert len(rows(desk.folder / "tuned" / "log.jsonl")) == 2


def test_a_resumed_training_is_the_uninterrupted_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    assert desk.finetune(epochs="3", out="whole").code == 0
    real = fit._epoch

    def interrupted(state: fit._State, *rest: object) -> None:
        if state.epoch == 2:
            raise KeyboardInterrupt
        real(state, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(fit, "_epoch", interrupted)
        assert desk.finetune(epochs="3").code == 130
    assert not (desk.folder / "tuned").exists()
    again = desk.finetune(epochs="3")
    assert (again.code, "give --resume, or remove the folder" in again.err) == (2, True)
    other = desk.finetune("--resume", epochs="4")
    assert "was trained with --epochs 3, not 4" in other.err
    assert desk.finetune("--resume", epochs="3").code == 0
    for name in ("graph.safetensors", "weights.safetensors"):
        whole, resumed = (desk.folder / out / name for out in ("whole", "tuned"))
        assert whole.read_bytes() == resumed.read_bytes()
    assert rows(desk.folder / "whole/log.jsonl") == rows(desk.folder / "tuned/log.jsonl")


def test_a_loss_that_is_no_number_ends_training(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fit.Loss.__call__, iter(range(99))

    def poisoned(self: fit.Loss, *inputs: torch.Tensor) -> torch.Tensor:
        loss = real(self, *inputs)
        return loss * float("nan") if next(calls) == 6 else loss  # five steps make an epoch

    with monkeypatch.context() as patched:
        patched.setattr(fit.Loss, "__call__", poisoned)
        found = desk.finetune(epochs="3")
    assert found.code == 2
    assert "epoch 2 step 2: the loss is nan: lower --lr 0.01; epoch 1 is kept in" in found.err
    assert len(found.err.splitlines()) == 1
    left = [path.name for path in (desk.folder / "tuned.training").iterdir()]
    assert sorted(left) == ["checkpoint.pt", "log.jsonl"]
    assert not (desk.folder / "tuned").exists()
    assert "checkpoint.pt: go on with --resume" in found.err
    kept = (desk.folder / "tuned.training" / "checkpoint.pt").read_bytes()
    lower = desk.finetune("--resume", "--lr", "0.002", epochs="3")
    assert lower.code == 0
    rates = [row["lr"] for row in rows(desk.folder / "tuned/log.jsonl")]
    assert rates[0] > 0.002 > rates[1]
    (desk.folder / "tuned.training").mkdir()
    (desk.folder / "tuned.training" / "checkpoint.pt").write_bytes(kept[:99])
    torn = desk.finetune("--resume", epochs="3")
    assert torn.code == 2
    assert "checkpoint.pt: damaged, or not a checkpoint" in torn.err


def test_resuming_nothing_is_reported(desk: Desk) -> None:
    found = desk.finetune("--resume")
    assert found.code == 2
    assert "no such checkpoint: start without --resume" in found.err
    assert not (desk.folder / "tuned.training").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--lr", "0"), "--lr 0.0: must be above 0", id="lr"),
        pytest.param(("--method", "lsk"), "no method 'lsk' (did you mean lsq?)", id="method"),
        pytest.param(("--device", "tpu"), "--device tpu: use cpu or cuda", id="device"),
        pytest.param(("--data", "none"), "none: no such file or folder", id="data"),
        pytest.param(("--weights", "x.npz"), "x.npz: no such file", id="weights"),
    ],
)
def test_mistakes_are_one_line(desk: Desk, words: tuple[str, ...], message: str) -> None:
    found = desk.finetune(*words)
    assert found.code == 2
    assert message in found.err
    assert len(found.err.splitlines()) == 1
    assert sorted(path.name for path in desk.folder.iterdir()) == ["policy.json", "train.npz"]


@pytest.mark.slow
def test_two_processes_train_as_one(desk: Desk) -> None:
    images, labels = separable(64, seed=1)
    np.savez(desk.folder / "val.npz", images=images, labels=labels)
    words = (
        *("-m", "gmpq.cli", "finetune", "policy.json", "--import", "tests.qat.nets:small"),
        *("--data", "train.npz", "--validation", "val.npz", "--epochs", "3", "--threads", "1"),
        *("--batch", "32", "--lr", "0.02"),
    )
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    for name, start in (("one", ()), ("two", torchrun)):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *start, *words, "--out", name],
            cwd=desk.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    first, second = (
        [row["loss"] for row in rows(desk.folder / name / "log.jsonl")] for name in ("one", "two")
    )
    # sums in another order move a few values across the middle between two codes
    assert first == pytest.approx(second, rel=0.02)
