"""A folder with a policy and small separable images, and a way to run ``gmpq`` in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gmpq.cli.commands import compile_command, group
from gmpq.cli.entry import run

SHAPE = (1, 3, 12, 12)
POLICY = {
    "version": 1,
    "model": {"input": {"shape": list(SHAPE)}},
    "layers": {"stem": {"w": 8, "a": 8}, "fc": {"w": 8, "a": 8}},
    "default": {"w": 3, "a": 3},
}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    folder: Path
    capture: pytest.CaptureFixture[str]

    def finetune(self, *more: str, **given: str) -> Result:
        options = {
            "import": "tests.qat.nets:small",
            "data": "train.npz",
            "epochs": "2",
            "batch": "16",
            "out": "tuned",
        } | given
        words = [word for name, value in options.items() for word in (f"--{name}", value) if value]
        return self.run(group, "finetune", "policy.json", *words, *more)

    def compile(self, policy: str, out: str) -> Result:
        network = ("--import", "tests.qat.nets:small")
        images = ("--calibration", "train.npz", "--images", "4", "--out", out, "--no-bench")
        return self.run(compile_command, policy, *network, *images)

    def run(self, command: object, *words: str) -> Result:
        code = run(command, words, "gmpq")  # type: ignore[arg-type]
        printed = self.capture.readouterr()
        return Result(code, printed.out, printed.err)

    def write_policy(self, change: Callable[[dict], object]) -> None:
        policy = json.loads(json.dumps(POLICY))
        change(policy)
        (self.folder / "policy.json").write_text(json.dumps(policy), "utf-8")


def separable(count: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images [N, H, W, C] whose class is the quarter that is bright, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    images = rng.integers(0, 120, (count, 12, 12, 3))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * 6 : row * 6 + 6, column * 6 : column * 6 + 6] += 90
    return images.astype(np.uint8), labels


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    monkeypatch.chdir(tmp_path)
    images, labels = separable(96)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    made = Desk(tmp_path, capsys)
    made.write_policy(lambda _: None)
    return made
