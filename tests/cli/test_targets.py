"""Targets that are spelled out, and parameters inside the libraries, from the command line."""

from __future__ import annotations

import pytest

from gmpq import manifest
from gmpq.locations import plain_name
from tests.cli.conftest import Desk

SPELLED = "aarch64-linux-gnu,cortex-a55,+dotprod"
FOLDER = "policy-aarch64-linux-gnu-cortex-a55-dotprod"


def test_a_target_that_is_spelled_out(desk: Desk) -> None:
    result = desk.compile("--target", SPELLED, out="")
    assert (result.code, result.err) == (0, "")
    fields = manifest.read(desk.folder / FOLDER)
    assert fields["target"] == fields["tvm"]["target"] == SPELLED
    verified = desk.gmpq("verify", FOLDER)
    assert (verified.code, verified.err) == (0, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("native", "native", id="name"),
        pytest.param(SPELLED, FOLDER.removeprefix("policy-"), id="spelled"),
        pytest.param("../x y,", "..-x-y", id="unusual"),
    ],
)
def test_the_default_directory_is_one_plain_name(text: str, expected: str) -> None:
    assert plain_name(text) == expected


def test_parameters_inside_the_libraries(desk: Desk) -> None:
    result = desk.compile("--embed-params")
    assert (result.code, result.err) == (0, "")
    fields = manifest.check_files(desk.out)
    assert fields["options"]["embed_params"] is True
    assert "gmpq_params(void)" in (desk.out / "model.h").read_text("utf-8")
    params = (desk.out / "params.bin").read_bytes()
    for name in ("model.so", "model.a"):
        content = (desk.out / name).read_bytes()
        assert params in content
        assert fields["files"][name]["bytes"] == len(content)
