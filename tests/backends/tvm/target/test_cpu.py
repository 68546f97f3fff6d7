from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.backends.host import Host
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import NAMES, find, native, rename_warnings
from gmpq.backends.tvm.target.cpu import corrections
from gmpq.backends.tvm.target.llvm import X86, Processor
from gmpq.errors import TargetError
from tests.support.strategies import random_graph

AARCH64 = 183  # e_machine of an ELF file


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found(name: str) -> None:
    assert find(name).name == name


def test_an_unknown_target_offers_close_names() -> None:
    with pytest.raises(TargetError, match=r"target 'arm46' is unknown \(did you mean arm64\b"):
        find("arm46")


def test_a_renamed_target_has_both_names_for_one_version() -> None:
    assert find("jetson-orin") == find("jetson-orin-cpu")
    (warning,) = rename_warnings("jetson-orin")
    assert warning.startswith("target 'jetson-orin' is now called 'jetson-orin-cpu': ")
    assert not any(rename_warnings(name) for name in NAMES)


def test_this_machine_runs_its_own_target() -> None:
    assert native().runs_here()


def test_another_architecture_does_not_run_here() -> None:
    other = find("arm64" if platform.machine() == "x86_64" else "x86-64-v3")
    assert not other.runs_here()


def test_a_missing_instruction_set_does_not_run_here() -> None:
    assert not replace(native(), features=native().features | {"not-yet-built"}).runs_here()


# A kernel for such a processor has been ended here by SIGILL: its instructions are in no list.
LACKING = ("bdver1", "bdver4", "znver1", "btver2")


@pytest.mark.parametrize("cpu", LACKING)
def test_instructions_that_no_kernel_asks_for_count_too(cpu: str) -> None:
    target = find(f"{X86},{cpu}")
    others = replace(target.processor(), attributes=("-sse4a", "-xop", "-fma4", "-tbm", "-lwp"))
    assert target.instructions() > others.instructions()
    assert target.runs_here() == (target.instructions() <= native().instructions())


def machine(*flags: str) -> Host:
    return Host("x86_64", "any", 1, frozenset(flags))


def test_what_llvm_misjudges_is_corrected() -> None:
    named = Processor(X86, "x86-64-v2")
    assert corrections(named, machine()) == ()  # nothing is known of it
    flags = "fpu lm cmov cx8 cx16 fxsr mmx nopl pni popcnt sse sse2 sse4_1 sse4_2 ssse3 lahf_lm"
    assert corrections(named, machine(*flags.split())) == ()
    masked = machine(*set(flags.split()) - {"popcnt"}, "amx_tile", "amx_int8")
    found = corrections(named, masked)
    assert found == ("+amx-tile", "+amx-int8", "-popcnt")
    assert "popcnt" not in replace(named, attributes=found).features()


def test_a_library_for_arm64_is_cross_compiled(tmp_path: Path) -> None:
    build(random_graph(3), find("arm64"), tmp_path)
    header = (tmp_path / "model.so").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == AARCH64


def test_a_missing_compiler_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    target = replace(find("arm64"), compiler="no-such-gcc")
    missing = r"'no-such-gcc' not found: .*pip install .* -e '\.\[cross\]'"
    with pytest.raises(TargetError, match=missing):
        build(random_graph(3), target, tmp_path)
