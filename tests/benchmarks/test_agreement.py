"""Programs that answer alike, and one that does not."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import agreement
from tests.qat.conftest import Desk, desk

assert desk  # the fixture


def test_programs_agree_on_labelled_images(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = desk.compile("policy.json", "native")
    assert compiled.code == 0, compiled.err
    words = ["native", "--data", "train.npz", "--images", "12"]
    found = CliRunner().invoke(agreement.main, words)
    assert found.exit_code == 0, found.output
    lines = [line.split() for line in found.output.splitlines()]
    rows = {name: rest for name, *rest in lines if name in ("reference", "onnxruntime", "tvm")}
    assert {tuple(rest) for rest in rows.values()} == {(rows["tvm"][0], "of", "12", "0", "0")}

    missing = CliRunner().invoke(agreement.main, ["native", "--data", "none.npz"])
    assert missing.exit_code == 2
    assert "none.npz: no such file or folder" in missing.output

    real = agreement.programs

    def wrong(folder: object) -> dict[str, agreement.Run]:
        runs = real(folder)  # type: ignore[arg-type]
        return runs | {"tvm": lambda image: runs["tvm"](image) + np.float32(1)}

    monkeypatch.setattr(agreement, "programs", wrong)
    other = CliRunner().invoke(agreement.main, words)
    assert other.exit_code == 1
    (line,) = (line.split() for line in other.output.splitlines() if line.startswith("tvm"))
    assert line[-2:] == ["12", "0"]
