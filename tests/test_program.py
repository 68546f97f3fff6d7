"""The description of a program: its JSON text stays, and every damage is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.backends.tvm.codegen.build import build
from gmpq.program import Program, ProgramStep, StoredValue, TensorSpec
from tests.support.builders import residual
from tests.support.single_layers import V3

STORED = StoredValue("a", 4, (1, 2, 3), (48, 1, 16))
STEPS = (ProgramStep("a", "copy", ("a",), (STORED,)), ProgramStep("y", "dequantize", ("y",)))
IMAGE, REAL = TensorSpec("x", (1, 2, 3)), TensorSpec("y", (1, 2, 3))
PROGRAM = Program("native", 0, 64, (IMAGE,), (REAL,), STEPS)


def test_the_text_in_the_manifest_stays(
    tmp_path: Path, matches_golden: Callable[[str, str], None]
) -> None:
    program = replace(build(residual(), V3, tmp_path).program, glibc="2.17")  # as linkers have it
    matches_golden("manifest-tvm.json", json.dumps(program.to_json(), indent=2) + "\n")
    assert Program.from_json(program.to_json()) == program


def test_members_that_older_manifests_lack() -> None:
    needed = ("target", "params_bytes", "workspace_bytes", "inputs", "outputs", "steps")
    fields = PROGRAM.to_json()
    assert Program.from_json({name: fields[name] for name in needed}) == PROGRAM


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param({"glibc": []}, r"'glibc' must be text", id="glibc"),
        pytest.param({"live_bytes": -1}, r"'live_bytes' must hold whole numbers", id="live"),
        pytest.param({"workspace_bytes": 37}, r"'a' lies outside of the workspace", id="workspace"),
        pytest.param({"inputs": [1]}, r"input or output must be an object", id="input"),
    ],
)
def test_damages_are_found(damage: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Program.from_json({**PROGRAM.to_json(), **damage})


def test_a_value_that_just_fits() -> None:
    assert STORED.span_bytes == 1 + 1 + 2 * 16
    assert Program.from_json({**PROGRAM.to_json(), "workspace_bytes": 4 + STORED.span_bytes})
