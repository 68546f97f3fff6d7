"""Targets that are spelled out, and parameters inside the libraries, from the command line."""

from __future__ import annotations

import json
import re

import pytest

from gmpq.backends.tvm.emulation.qemu import missing
from gmpq.backends.tvm.target import find
from gmpq.files import manifest
from gmpq.files.locations import plain_name
from tests.cli.conftest import Desk
from tests.support.gpu.layers import emulated

SPELLED = "aarch64-linux-gnu,cortex-a55,+dotprod"
REASON = missing(find("rpi4"))
FOLDER = "policy-aarch64-linux-gnu-cortex-a55-dotprod"


def test_a_target_that_is_spelled_out(desk: Desk) -> None:
    result = desk.compile("--target", SPELLED, out="")
    assert (result.code, result.err) == (0, "")
    fields = manifest.read(desk.folder / FOLDER)
    assert fields["max_params_ratio"] == 1.5
    assert fields["target"] == fields["tvm"]["target"] == SPELLED
    verified = desk.gmpq("verify", FOLDER)
    assert (verified.code, verified.err) == (0, "")


@emulated
def test_a_gpu(desk: Desk) -> None:
    result = desk.compile("--target", "cuda-sm_80")
    assert (result.code, result.err) == (0, "")
    assert "shipped, emulated" in result.out
    assert {path.name for path in desk.out.iterdir()} >= {"kernels.cu", "model.so", "model.h"}
    verified = desk.gmpq("verify", "out")
    assert (verified.code, verified.err) == (0, "")
    assert "quantize" in desk.gmpq("explain", "out").out


@pytest.mark.parametrize("words", [("--embed-params",), ("--tune", "quick")])
def test_what_gpus_do_not_have(desk: Desk, words: tuple[str, ...]) -> None:
    result = desk.compile("--target", "cuda-sm_80", *words)
    expected = f"error: {words[0]}: target cuda-sm_80 has no such option: leave it out\n"
    assert (result.code, result.err) == (2, expected)


def test_the_old_name_of_a_target_costs_a_warning(desk: Desk) -> None:
    result = desk.compile("--target", "jetson-orin", "--no-bench")
    warning = "target 'jetson-orin' is now called 'jetson-orin-cpu': the next version drops the old"
    assert (result.code, result.err) == (0, f"warning: {warning} name\n")
    fields = manifest.read(desk.out)
    assert fields["target"] == fields["tvm"]["target"] == "jetson-orin-cpu"
    assert fields["warnings"] == [f"{warning} name"]


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


def test_what_was_measured_says_on_what(desk: Desk) -> None:
    desk.write_policy(lambda _: None)
    words = ("--import", "tests.cli.networks:small", "--calibration", "images.npy", "--out", "out")
    result = desk.gmpq("compile", "policy.json", *words)
    assert (result.code, result.err) == (0, "")
    times = json.loads((desk.out / "latency.json").read_text("utf-8"))
    assert times["measured_on"] == manifest.read(desk.out)["measured_on"]
    assert {row["backend"] for row in times["rows"]} == {"onnxruntime", "tvm"}
    told = f"on {times['measured_on']['processor']}, "
    for found in (result, desk.gmpq("explain", "out")):
        assert told in found.out
        assert f"\n{times['measured_on']['date']}, 1 thread, gmpq " in found.out


def test_a_program_for_another_machine_is_not_timed(desk: Desk) -> None:
    words = ("--import", "tests.cli.networks:small", "--calibration", "images.npy", "--out", "out")
    result = desk.gmpq("compile", "policy.json", "--target", "armv7", *words)
    assert (result.code, result.err) == (0, "")
    measured = desk.gmpq("bench", "out", "--seconds", "0.1")
    for found in (result, measured):
        assert "not timed: its programs are for another machine" in found.out
        assert "median ms" not in found.out
    times = json.loads((desk.out / "latency.json").read_text("utf-8"))
    assert times == {"measured_on": None, "rows": []}
    assert manifest.read(desk.out)["measured_on"] is None


def test_a_name_that_no_function_can_have(desk: Desk) -> None:
    result = desk.compile("--name", "2nd")
    assert result.code == 2
    assert result.err.startswith("error: --name '2nd': C functions cannot begin so: give a letter")
    assert not desk.out.exists()


def test_parameters_and_names_in_the_libraries(desk: Desk) -> None:
    result = desk.compile("--embed-params", "--name", "lite0", "--max-params-ratio", "2.5")
    assert (result.code, result.err) == (0, "")
    fields = manifest.check_files(desk.out)
    assert fields["max_params_ratio"] == 2.5
    assert fields["options"]["embed_params"] is True
    assert fields["tvm"]["prefix"] == "lite0"
    assert "lite0_params(void)" in (desk.out / "model.h").read_text("utf-8")
    assert "lite0_run(" in (desk.out / "classify.c").read_text("utf-8")
    params = (desk.out / "params.bin").read_bytes()
    for name in ("model.so", "model.a"):
        content = (desk.out / name).read_bytes()
        assert params in content
        assert fields["files"][name]["bytes"] == len(content)


@pytest.mark.arm
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_instructions_of_a_program_that_is_emulated(desk: Desk) -> None:
    assert desk.compile("--target", "rpi4").code == 0
    found = desk.gmpq("bench", desk.out.name, "--seconds", "0.1")
    assert (found.code, found.err) == (0, "")
    told = r"tvm for rpi4: [\d,]+ instructions per run \(emulated on cortex-a53, not a latency\)"
    assert re.search(told, found.out)


def test_a_program_that_runs_here_is_timed_and_not_counted(desk: Desk) -> None:
    assert desk.compile().code == 0
    found = desk.gmpq("bench", desk.out.name, "--seconds", "0.1")
    assert (found.code, found.err) == (0, "")
    assert "instructions" not in found.out
