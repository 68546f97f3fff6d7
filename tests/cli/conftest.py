"""A directory with a policy, photographs and weights, and a way to run commands in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from gmpq.cli.commands import group
from gmpq.cli.entry import run
from tests.cli.networks import SHAPE, small

POLICY = {
    "version": 1,
    "model": {"input": {"shape": list(SHAPE)}},
    "layers": {"stem": {"w": 8, "a": 8}, "body": {"w": 3, "a": 4}, "head": {"w": 8, "a": 8}},
}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """Runs ``gmpq`` in ``folder``, whose ``out`` is where compiles write."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def gmpq(self, *arguments: str) -> Result:
        code = run(group, arguments, "gmpq")
        told = self.capture.readouterr()
        return Result(code, told.out, told.err)

    def compile(self, *more: str, **given: str) -> Result:
        options = {
            "import": "tests.cli.networks:small",
            "calibration": "images.npy",
            "out": "out",
        } | given
        words = [word for name, value in options.items() for word in (f"--{name}", value) if value]
        return self.gmpq("compile", "policy.json", *words, "--no-bench", *more)

    def write_policy(self, change: Callable[[dict], object]) -> None:
        policy = json.loads(json.dumps(POLICY))
        change(policy)
        (self.folder / "policy.json").write_text(json.dumps(policy), "utf-8")


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(POLICY), "utf-8")
    images = np.random.default_rng(0).normal(size=(4, *SHAPE[1:])).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    torch.save(small().state_dict(), tmp_path / "weights.pt")
    return Desk(tmp_path, capsys)
