"""``gmpq finetune`` from end to end, and compiling what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gmpq import serialize
from tests.qat.conftest import Desk, separable


def rows(path: Path) -> list[dict]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_a_network_learns_and_compiles_as_it_was_trained(desk: Desk) -> None:
    found = desk.finetune("--threads", "1", "--no-flip", epochs="6", lr="0.05")
    assert found.code == 0, found.err
    folder = desk.folder / "tuned"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["graph.safetensors", "log.jsonl", "policy.json", "weights.safetensors"]
    assert not (desk.folder / "tuned.training").exists()
    history = rows(folder / "log.jsonl")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert max(row["val_accuracy"] for row in history) > 0.7
    compiled = desk.compile("tuned/policy.json", "compiled")
    assert compiled.code == 0, compiled.err
    trained = (folder / "graph.safetensors").read_bytes()
    assert (desk.folder / "compiled" / "graph.safetensors").read_bytes() == trained
    assert json.loads((desk.folder / "compiled" / "parity.json").read_text())["verdict"] == "equal"
